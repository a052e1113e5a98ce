//! Messages that nobody here wrote: the test data of Python's email library, read where Debian
//! installs it, carried octet for octet.

use std::process::Command;

use crate::world::{ALICE, BOB, PASSWORD, World, assert_carried, run, text};

/// From the package libpython3.11-testsuite (or its successor of another version).
fn messages() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for library in std::fs::read_dir("/usr/lib").unwrap() {
        let library = library.unwrap();
        if !library.file_name().to_string_lossy().starts_with("python3") {
            continue;
        }
        let Ok(files) = std::fs::read_dir(library.path().join("test/test_email/data")) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "txt") {
                found.push((text(&path), to_wire(&std::fs::read(&path).unwrap())));
            }
        }
    }
    assert!(
        found.len() >= 40,
        "libpython3-testsuite is missing: `cargo xtask test` installs it"
    );
    found.sort();
    found
}

/// What a mail program sends of a file: every line ends in CRLF, the last one too.
fn to_wire(file: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(file.len() * 2);
    let mut rest = file;
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|octet| matches!(octet, b'\n' | b'\r'))
            .unwrap_or(rest.len());
        wire.extend_from_slice(&rest[..end]);
        wire.extend_from_slice(b"\r\n");
        let skip = if rest[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = rest.get(end + skip..).unwrap_or_default();
    }
    wire
}

#[test]
fn foreign_messages_arrive_octet_for_octet() {
    let world = World::start().unwrap();
    let messages = messages();
    for (number, (path, message)) in messages.iter().enumerate() {
        let file = world.file(&format!("{number}.eml"), message).unwrap();
        // By the listener between servers, which must not complete what is missing.
        run(Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--url",
                &format!("smtp://localhost:{}", world.server.ports.mx),
            ])
            .args([
                "--mail-from",
                BOB,
                "--mail-rcpt",
                ALICE,
                "--upload-file",
                &text(&file),
            ]))
        .unwrap();
        // A program that submits one after the other sees them arrive in this order.
        assert_eq!(world.fetch(ALICE, 1).unwrap().len(), 1);
        let received = run(Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--url",
                &format!("pop3s://localhost:{}/1", world.server.ports.pop3s),
            ])
            .args([
                "--cacert",
                &text(&world.server.certificate()),
                "--user",
                &format!("{ALICE}:{PASSWORD}"),
            ]))
        .unwrap()
        .stdout;
        println!("{path}");
        assert_carried(message, &received);
        run(Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--request",
                "DELE",
                "--list-only",
            ])
            .args([
                "--url",
                &format!("pop3s://localhost:{}/1", world.server.ports.pop3s),
            ])
            .args([
                "--cacert",
                &text(&world.server.certificate()),
                "--user",
                &format!("{ALICE}:{PASSWORD}"),
            ]))
        .unwrap();
    }
    println!("{} messages", messages.len());
}
