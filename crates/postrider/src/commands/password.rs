//! Passwords: asked for without echo, read from a pipe, or made up. Never from the command line.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use rand::seq::IndexedRandom;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Without what is mistaken for something else when read out or copied by hand.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
const GROUPS: usize = 4;
const GROUP: usize = 5;

/// A password of 100 random bits, in groups that can be read out: "h7k2m-…".
#[must_use]
pub fn generate() -> Zeroizing<String> {
    let mut random = rand::rng();
    let mut password = Zeroizing::new(String::with_capacity(GROUPS * (GROUP + 1)));
    for group in 0..GROUPS {
        if group > 0 {
            password.push('-');
        }
        for _ in 0..GROUP {
            let letter = ALPHABET.choose(&mut random).copied().unwrap_or(b'x');
            password.push(char::from(letter));
        }
    }
    password
}

/// Asks for a new password, twice on a terminal; from anything else it reads one line.
///
/// # Errors
/// Nothing could be read, the password is empty, or the two differ.
pub fn ask(account: &str) -> anyhow::Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return not_empty(line().context("reading the password from standard input")?);
    }
    let first = not_empty(hidden(&format!("New password for {account}: "))?)?;
    let second = hidden("The same again: ")?;
    if *first != *second {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(first)
}

fn not_empty(password: Zeroizing<String>) -> anyhow::Result<Zeroizing<String>> {
    if password.is_empty() {
        bail!("an empty password is not allowed");
    }
    Ok(password)
}

fn line() -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut line)?;
    let bare = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(bare);
    Ok(line)
}

/// One line from the terminal, which does not show what is typed.
fn hidden(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut stderr = std::io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let echo = NoEcho::begin().context("turning the terminal's echo off")?;
    let answer = line();
    drop(echo);
    stderr.write_all(b"\n")?;
    answer.context("reading the password")
}

/// While it lives the terminal does not echo.
struct NoEcho(Termios);

impl NoEcho {
    fn begin() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let password = generate();
        assert_eq!(password.len(), 23);
        assert!(password.bytes().all(|b| b == b'-' || ALPHABET.contains(&b)));
        assert_ne!(*password, *generate());
        assert_eq!(ALPHABET.len(), 32, "five bits a letter");
    }
}
