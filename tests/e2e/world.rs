//! What most tests start from: one server with two accounts, and a message that is hard to carry.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use postrider_tests::server::{Server, Settings};
use tempfile::TempDir;

pub(crate) const ALICE: &str = "alice@here.test";
pub(crate) const BOB: &str = "bob@here.test";
/// Made for this run of a test only.
pub(crate) const PASSWORD: &str = "correct horse 'battery\" staple";

/// A running server with accounts alice and bob, and a folder for what a test needs.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) dir: TempDir,
}

pub(crate) fn settings() -> Settings {
    Settings {
        hostname: "mail.here.test".to_owned(),
        domains: vec!["here.test".to_owned()],
        accounts: vec![
            (ALICE.to_owned(), PASSWORD.to_owned()),
            (BOB.to_owned(), PASSWORD.to_owned()),
        ],
        trust_loopback: false,
        ..Settings::default()
    }
}

impl World {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_with(&settings())
    }

    pub(crate) fn start_with(settings: &Settings) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = Server::start(&dir.path().join("server"), settings)?;
        Ok(Self { server, dir })
    }

    /// A file in the test's folder.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// The messages of an account as Python's poplib gets them, octet for octet. Waits until
    /// there are so many.
    pub(crate) fn fetch(&self, account: &str, expected: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let messages = poplib(&self.server, account)?;
            if messages.len() >= expected {
                return Ok(messages);
            }
            if Instant::now() > end {
                bail!(
                    "{account} has {} messages and not {expected}; {}",
                    messages.len(),
                    self.server.logs()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Everything in a maildrop, fetched by Python's poplib over TLS.
pub(crate) fn poplib(server: &Server, account: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    const SCRIPT: &str = "
import poplib, ssl, sys, base64
port, certificate, account, password = sys.argv[1:4] + [sys.stdin.readline().rstrip('\\n')]
context = ssl.create_default_context(cafile=certificate)
box = poplib.POP3_SSL('localhost', int(port), context=context, timeout=20)
box.user(account); box.pass_(password)
for number in range(1, box.stat()[0] + 1):
    lines = box.retr(number)[1]
    print(base64.b64encode(b''.join(line + b'\\r\\n' for line in lines)).decode())
box.quit()
";
    let output = run_with_input(
        Command::new("/usr/bin/python3")
            .arg("-c")
            .arg(SCRIPT)
            .arg(server.ports.pop3s.to_string())
            .arg(server.certificate())
            .arg(account),
        format!("{PASSWORD}\n").as_bytes(),
    )?;
    String::from_utf8(output.stdout)?
        .lines()
        .map(decode_base64)
        .collect()
}

fn decode_base64(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let value = LETTERS
            .iter()
            .position(|known| *known == letter)
            .context("base64")?;
        bits = bits << 6 | u32::try_from(value)?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff)?);
        }
    }
    Ok(bytes)
}

/// Runs a program to its end and fails, with all that it said, unless it succeeds.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Output> {
    run_with_input(command, b"")
}

/// The same, with something to read on its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} is missing: `cargo xtask test` installs it"))?;
    let mut stdin = child.stdin.take().context("standard input")?;
    let input = input.to_vec();
    // A program that reads nothing closes its end, and that is fine.
    let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output()?;
    writer.join().ok();
    if !output.status.success() {
        bail!(
            "{name} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// A header section for a message from bob to alice.
pub(crate) fn header(subject: &str) -> String {
    format!(
        "From: Bob <{BOB}>\r\nTo: Alice <{ALICE}>\r\nSubject: {subject}\r\n\
         Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{subject}@here.test>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    )
}

/// A body with all that goes wrong on the way: a lone dot, lines that begin with dots, 8-bit
/// text, empty lines, blanks at the end, and a line of the 998 octets that RFC 5322 allows.
pub(crate) fn hard_body() -> Vec<u8> {
    let long = "x".repeat(998);
    format!(
        "A lone dot:\r\n.\r\nTwo:\r\n..\r\n.begins with one\r\n..begins with two\r\n\
         Grüße, 日本語, \u{1f426}\r\n\r\nblanks at the end  \t \r\n{long}\r\nFrom the start\r\n.\r\n\r\n.\r\n"
    )
    .into_bytes()
}

pub(crate) fn hard_message(subject: &str) -> Vec<u8> {
    let mut message = header(subject).into_bytes();
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(&hard_body());
    message
}

/// The part behind the first empty line.
pub(crate) fn body(message: &[u8]) -> &[u8] {
    match memchr::memmem::find(message, b"\r\n\r\n") {
        Some(at) => &message[at + 4..],
        None => b"",
    }
}

/// Fails unless `received` is `sent`, octet for octet, with nothing but whole trace fields
/// (Return-Path, Received, Delivered-To) on top. Where the message begins without a header
/// section, an empty line keeps the trace fields apart from its text.
pub(crate) fn assert_carried(sent: &[u8], received: &[u8]) {
    assert!(
        received.ends_with(sent),
        "the message was changed on its way:\nsent:\n{}\nreceived:\n{}",
        String::from_utf8_lossy(sent),
        String::from_utf8_lossy(received)
    );
    let mut added = &received[..received.len() - sent.len()];
    if !begins_with_a_field(sent) {
        added = added.strip_suffix(b"\r\n").unwrap_or(added);
    }
    assert!(
        added.ends_with(b"\r\n"),
        "the added fields end in the middle of a line"
    );
    for line in added.split_inclusive(|octet| *octet == b'\n') {
        let is_trace = [
            &b"Return-Path:"[..],
            b"Received:",
            b"Delivered-To:",
            b" ",
            b"\t",
        ]
        .iter()
        .any(|start| line.starts_with(start));
        assert!(is_trace, "added: {}", String::from_utf8_lossy(line));
    }
}

/// Whether the first line is a header field (RFC 5322 section 2.2).
fn begins_with_a_field(message: &[u8]) -> bool {
    let name = message.iter().position(|octet| *octet == b':').unwrap_or(0);
    name > 0
        && message[..name]
            .iter()
            .all(|octet| matches!(octet, 33..=126))
}

/// Line ends as local programs have them.
pub(crate) fn with_lf(text: &[u8]) -> Vec<u8> {
    text.iter()
        .copied()
        .filter(|octet| *octet != b'\r')
        .collect()
}

/// A path as text, for a program's argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
