//! The demo, run as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::process::{Command, Output};

fn demo(arguments: &[&str], locale: &str) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("demo")
        .args(arguments)
        .env("LC_ALL", locale)
        .env_remove("POSTRIDER_CONFIG")
        .output()
        .unwrap();
    let drawn = String::from_utf8(output.stdout.clone()).unwrap();
    (output, drawn)
}

#[test]
fn the_demo_holds_and_shows_the_protocol() {
    let (output, drawn) = demo(&[], "C.UTF-8");
    assert!(
        output.status.success(),
        "{drawn}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for words in [
        "EHLO bobs-laptop.bob.test",
        "STARTTLS",
        "AUTH PLAIN [hidden]",
        "235 2.7.0",
        "MAIL FROM:<bob@bob.test>",
        "RCPT TO:<alice@alice.test>",
        "354 ",
        "..              (line 13: .)",
        "..hidden",
        "Grüße",
        "alice.test MX?",
        "10 mx.alice.test",
        "mx.alice.test A?",
        "EHLO mail.bob.test",
        "the 250 waits for the disk",
        "STLS",
        "PASS [hidden]",
        "RETR 1",
        "octet for octet",
    ] {
        assert!(drawn.contains(words), "{words:?} is missing in\n{drawn}");
    }
    assert!(!drawn.contains('\u{2718}'), "{drawn}");
    assert!(!drawn.contains('\u{1b}'), "colours in a pipe");
    assert!(drawn.contains('╞'), "box drawing in UTF-8");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn every_width_and_locale_has_its_drawing() {
    for width in [80_usize, 100, 120] {
        let width_text = width.to_string();
        let (output, drawn) = demo(&["--width", &width_text], "C");
        assert!(output.status.success(), "{drawn}");
        assert!(drawn.is_ascii(), "the locale C takes ASCII only");
        for line in drawn.lines() {
            assert!(line.len() <= width, "{} columns: {line}", line.len());
        }
    }
}

#[test]
fn secrets_are_not_drawn() {
    let (_, drawn) = demo(&[], "C.UTF-8");
    // Generated passwords are four groups of five letters.
    let is_password = |word: &str| word.len() == 23 && word.split('-').all(|part| part.len() == 5);
    let leaked = drawn.split_whitespace().find(|word| is_password(word));
    assert_eq!(leaked, None);
}

#[test]
fn a_demo_that_cannot_run_says_why_and_fails() {
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("demo")
        .env("TMPDIR", "/nonexistent/folder")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("/nonexistent/folder"), "{told}");
}
