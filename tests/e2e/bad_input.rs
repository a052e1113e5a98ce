//! What strangers send: always a proper reply or a clean close, bounded memory, and the next
//! client is served.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use postrider_tests::cpu;
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::world::{ALICE, BOB, World, hard_message, run, text};

/// More than this is not "bounded" for any of what is sent here.
const MEMORY: u64 = 64 << 20;

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Writes as much as the server takes.
fn push(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

/// Everything until the server closes.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        // The server closed while input of ours was still on its way.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!(
            "neither a reply nor a close: {error}; so far {:?}",
            String::from_utf8_lossy(&all)
        ),
    }
    all
}

/// Whether every line is a reply.
fn assert_replies(bytes: &[u8]) {
    for line in bytes.split_inclusive(|octet| *octet == b'\n') {
        let proper = line.len() >= 6
            && line[..3].iter().all(u8::is_ascii_digit)
            && matches!(line[3], b' ' | b'-')
            && line.ends_with(b"\r\n");
        assert!(proper, "no reply: {:?}", String::from_utf8_lossy(line));
    }
}

/// The next client is served, by both listeners, and what it sends arrives.
fn assert_served(world: &World, messages: usize) {
    let file = world.file("next", &hard_message("next")).unwrap();
    run(Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args([
            "--url",
            &format!("smtp://127.0.0.1:{}", world.server.ports.mx),
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
    assert_eq!(world.fetch(ALICE, messages).unwrap().len(), messages);
}

#[test]
fn garbage_gets_a_reply_or_a_close() {
    let world = World::start().unwrap();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let ports = world.server.ports;
    for round in 0..60 {
        let mut bytes = vec![0; random.random_range(1..20_000)];
        random.fill_bytes(&mut bytes);
        if round % 3 == 0 {
            // Lines, so that they reach the commands.
            bytes.iter_mut().for_each(|octet| *octet = *octet % 95 + 32);
            bytes
                .chunks_exact_mut(40)
                .for_each(|line| line[38..].copy_from_slice(b"\r\n"));
        }
        let mut smtp = connect(ports.mx);
        push(&mut smtp, &bytes);
        smtp.shutdown(Shutdown::Write).ok();
        assert_replies(&rest(&mut smtp));
        for port in [ports.pop3, ports.pop3s, ports.submissions, ports.submission] {
            let mut other = connect(port);
            push(&mut other, &bytes);
            other.shutdown(Shutdown::Write).ok();
            rest(&mut other);
        }
    }
    assert_served(&world, 1);
}

#[test]
fn a_line_of_a_hundred_megabytes_is_not_kept() {
    let world = World::start().unwrap();
    let process = world.server.processes()[0];
    let before = cpu::resident(process);
    let piece = vec![b'x'; 1 << 20];
    let preludes: [&[u8]; 3] = [
        b"",
        b"EHLO bad.test\r\nMAIL FROM:<",
        b"EHLO bad.test\r\nMAIL FROM:<bob@far.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\nSubject: ",
    ];
    for (number, prelude) in preludes.iter().enumerate() {
        let mut stream = connect(world.server.ports.mx);
        push(&mut stream, prelude);
        for _ in 0..100 {
            if !push(&mut stream, &piece) {
                break;
            }
        }
        push(&mut stream, b"\r\n.\r\nQUIT\r\n");
        stream.shutdown(Shutdown::Write).ok();
        let replies = rest(&mut stream);
        assert_replies(&replies);
        let grown = cpu::resident(process).saturating_sub(before);
        assert!(grown < MEMORY, "{grown} octets more after {number}");
    }
    let mut pop3 = connect(world.server.ports.pop3);
    for _ in 0..100 {
        if !push(&mut pop3, &piece) {
            break;
        }
    }
    pop3.shutdown(Shutdown::Write).ok();
    rest(&mut pop3);
    assert!(cpu::resident(process).saturating_sub(before) < MEMORY);
    assert_served(&world, 1);
}

#[test]
fn endless_recipients_meet_a_limit() {
    let world = World::start().unwrap();
    let mut stream = connect(world.server.ports.mx);
    push(
        &mut stream,
        b"EHLO bad.test\r\nMAIL FROM:<bob@far.test>\r\n",
    );
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || rest(&mut reader));
    for _ in 0..20_000 {
        if !push(&mut stream, b"RCPT TO:<alice@here.test>\r\n") {
            break;
        }
    }
    push(&mut stream, b"QUIT\r\n");
    let replies = reading.join().unwrap();
    assert_replies(&replies);
    let replies = String::from_utf8(replies).unwrap();
    assert!(
        replies.contains("\r\n452 4.5.3"),
        "{}",
        &replies[replies.len().saturating_sub(300)..]
    );
    assert_served(&world, 1);
}

#[test]
fn tls_to_a_plain_port_and_plain_to_a_tls_port() {
    let world = World::start().unwrap();
    let ports = world.server.ports;
    // A ClientHello's beginning.
    let hello = [
        &[
            0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
        ][..],
        &[0x5a; 501],
    ]
    .concat();
    for port in [ports.mx, ports.submission] {
        let begun = Instant::now();
        let mut stream = connect(port);
        push(&mut stream, &hello);
        assert_replies(&rest(&mut stream));
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "closed at once, not by a time-out"
        );
    }
    for port in [ports.submissions, ports.pop3s] {
        let begun = Instant::now();
        let mut stream = connect(port);
        push(&mut stream, b"EHLO plain.test\r\nQUIT\r\n");
        rest(&mut stream);
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "closed at once, not by a time-out"
        );
    }
    assert_served(&world, 1);
}

#[test]
fn disconnects_at_every_state() {
    let world = World::start().unwrap();
    let dialogue: &[&[u8]] = &[
        b"EH",
        b"LO gone.test\r\n",
        b"MAIL FROM:<bob@far.test>\r\n",
        b"RCPT TO:<alice@here.test>\r\n",
        b"DA",
        b"TA\r\n",
        b"Subject: gone\r\n\r\nhalf a mess",
        b"age\r\n",
        b".",
        b"\r",
    ];
    for length in 0..=dialogue.len() {
        for reset in [false, true] {
            let mut stream = connect(world.server.ports.mx);
            for part in &dialogue[..length] {
                push(&mut stream, part);
                std::thread::sleep(Duration::from_millis(3));
            }
            if reset {
                // Closing with unread input makes the kernel send a reset.
                drop(stream);
            } else {
                stream.shutdown(Shutdown::Write).ok();
                assert_replies(&rest(&mut stream));
            }
        }
    }
    // None of them was a message.
    assert_served(&world, 1);
}

#[test]
fn content_ends_at_crlf_dot_crlf_and_nowhere_else() {
    let world = World::start().unwrap();
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\n.\r"] {
        let mut stream = connect(world.server.ports.mx);
        let smuggled = format!(
            "EHLO bad.test\r\nMAIL FROM:<bob@far.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\n\
             Subject: outer\r\n\r\nouter{end}MAIL FROM:<evil@far.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\n\
             Subject: smuggled\r\n\r\ninner\r\n.\r\nQUIT\r\n"
        );
        push(&mut stream, smuggled.as_bytes());
        let replies = String::from_utf8(rest(&mut stream)).unwrap();
        assert_replies(replies.as_bytes());
        assert_eq!(
            replies.matches("\r\n354 ").count(),
            1,
            "{end:?} ended the content: {replies}"
        );
        assert!(
            !replies.contains("queued as"),
            "{end:?} was let through: {replies}"
        );
    }
    assert_served(&world, 1);
}

#[test]
fn commands_behind_starttls_are_not_obeyed() {
    let world = World::start().unwrap();
    let mut stream = connect(world.server.ports.submission);
    push(
        &mut stream,
        b"EHLO bad.test\r\nSTARTTLS\r\nRSET\r\nNOOP\r\n",
    );
    std::thread::sleep(Duration::from_millis(300));
    stream.shutdown(Shutdown::Write).ok();
    let replies = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    let after = replies.split("220 2.0.0").nth(1).unwrap_or_default();
    assert!(
        !after.contains("250"),
        "a plain command was answered behind STARTTLS: {replies}"
    );
    assert_served(&world, 1);
}
