//! POP3 on real sockets.

mod common;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use common::{Client, quick, secret, start};
use postrider_config::values::Period;
use postrider_mailbox::accounts::AccountsFile;
use postrider_mailbox::{MailboxConfig, Pop3Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MESSAGE: &str = "Subject: dots\r\n\r\n.\r\n..\r\n.begins\r\n\u{e4}\r\n";

#[tokio::test]
async fn a_whole_session_over_stls() {
    let server = start(quick());
    server.deliver(MESSAGE.as_bytes()).await;
    let mut client = server.plain().await;
    client.expect("+OK").await;
    client.send("CAPA\r\n").await;
    client.expect("+OK").await;
    assert!(client.lines().await.contains("STLS\r\n"));
    client.send("USER alice\r\n").await;
    client.expect("-ERR").await;
    // What is sent ahead of the handshake must not count as said inside of it.
    client.send("STLS\r\nUSER alice\r\nQUIT\r\n").await;
    client.expect("+OK").await;
    let mut client = Client::new(server.handshake(client.stream.into_inner()).await);
    client.send("AUTH PLAIN\r\n").await;
    client.expect("+ \r\n").await;
    client.send("AGFsaWNlAG9wZW4gc2VzYW1l\r\n").await;
    client.expect("+OK 1 messages").await;
    client.send("RETR 1\r\nUIDL\r\nDELE 1\r\nQUIT\r\n").await;
    let expected = format!("Return-Path: <bob@d.test>\r\n{MESSAGE}");
    client
        .expect(&format!("+OK {} octets", expected.len()))
        .await;
    assert_eq!(client.lines().await, expected);
    client.expect("+OK").await;
    let unique = client.lines().await;
    assert!(
        unique.starts_with("1 ") && unique.trim_end().ends_with("-0"),
        "{unique}"
    );
    client.expect("+OK Message deleted").await;
    client.expect("+OK Goodbye").await;
    client.expect_end().await;
    let mut client = server.login().await;
    client.send("STAT\r\n").await;
    client.expect("+OK 0 0\r\n").await;
}

#[tokio::test]
async fn deletions_need_a_quit() {
    let server = start(quick());
    server.deliver(b"x\r\n").await;
    let mut client = server.login().await;
    client.send("DELE 1\r\nSTAT\r\n").await;
    client.expect("+OK").await;
    client.expect("+OK 0 0").await;
    drop(client);
    // The lock goes with the connection, as soon as the server has seen it go.
    let mut again = loop {
        let mut client = server.tls().await;
        client.expect("+OK").await;
        client.send("USER alice\r\nPASS open sesame\r\n").await;
        client.expect("+OK").await;
        match client.line().await.unwrap() {
            line if line.starts_with("-ERR [IN-USE]") => {
                tokio::time::sleep(Duration::from_millis(10)).await
            }
            line => {
                assert!(line.starts_with("+OK 1 messages"), "{line}");
                break client;
            }
        }
    };
    again.send("QUIT\r\n").await;
    again.expect("+OK").await;
}

#[tokio::test]
async fn one_session_a_maildrop_and_unique_ids_stay() {
    let server = start(quick());
    for n in 0..3 {
        server.deliver(format!("{n}\r\n").as_bytes()).await;
    }
    let mut first = server.login().await;
    let mut second = server.tls().await;
    second.expect("+OK").await;
    second.send("USER alice\r\nPASS open sesame\r\n").await;
    second.expect("+OK").await;
    second.expect("-ERR [IN-USE]").await;
    first.send("UIDL\r\nRETR 2\r\n").await;
    first.expect("+OK").await;
    let unique = first.lines().await;
    first.expect("+OK").await;
    assert_eq!(first.lines().await, "Return-Path: <bob@d.test>\r\n1\r\n");
    // A message that comes now is for the next session.
    server.deliver(b"late\r\n").await;
    first.send("STAT\r\nQUIT\r\n").await;
    first.expect("+OK 3 ").await;
    first.expect("+OK").await;
    second
        .send("USER alice\r\nPASS open sesame\r\nUIDL\r\n")
        .await;
    second.expect("+OK").await;
    second.expect("+OK 4 ").await;
    second.expect("+OK").await;
    assert!(second.lines().await.starts_with(&unique));
}

#[tokio::test]
async fn passwords_change_without_a_restart() {
    let server = start(quick());
    drop(server.login().await);
    let file = AccountsFile::new(
        &common::server_config(server.folder.path()),
        &MailboxConfig::default(),
    );
    file.passwd("alice", &secret("new")).unwrap();
    let mut client = server.tls().await;
    client.expect("+OK").await;
    client
        .send("USER alice@C.test\r\nPASS open sesame\r\n")
        .await;
    client.expect("+OK").await;
    client.expect("-ERR [AUTH]").await;
    client.send("USER alice@C.test\r\nPASS new\r\n").await;
    client.expect("+OK").await;
    client.expect("+OK 0 messages").await;
}

#[tokio::test]
async fn guessing_is_slow_and_short() {
    let server = start(Pop3Config {
        auth_failure_delay: Period(Duration::from_millis(100)),
        ..quick()
    });
    let mut client = server.tls().await;
    client.expect("+OK").await;
    let begun = Instant::now();
    for name in ["alice", "nobody", "alice"] {
        client.send(&format!("USER {name}\r\nPASS wrong\r\n")).await;
        client.expect("+OK").await;
        client.expect("-ERR [AUTH]").await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(700));
    client.expect_end().await;
}

#[tokio::test]
async fn limits_hold() {
    let number = |n| NonZeroU32::new(n).unwrap();
    let server = start(Pop3Config {
        connections_per_client: number(2),
        login_timeout: Period(Duration::from_millis(300)),
        ..quick()
    });
    let mut first = server.plain().await;
    let mut second = server.plain().await;
    first.expect("+OK").await;
    second.expect("+OK").await;
    let mut third = server.plain().await;
    third.expect("-ERR [SYS/TEMP]").await;
    third.expect_end().await;
    // An autologout says nothing.
    first.expect_end().await;
    second.expect_end().await;
    let mut fourth = server.plain().await;
    fourth.expect("+OK").await;
    // One that never shakes hands.
    let mut silent = TcpStream::connect(server.tls).await.unwrap();
    assert_eq!(silent.read(&mut [0; 10]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn the_wrong_protocol_ends_cleanly() {
    let server = start(quick());
    // TLS to the plain port.
    let mut client = server.plain().await;
    client.expect("+OK").await;
    client
        .stream
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        .await
        .unwrap();
    client.expect("-ERR This port begins in plain text").await;
    client.expect_end().await;
    // Plain to the TLS port.
    let mut client = Client::new(TcpStream::connect(server.tls).await.unwrap());
    client.send("CAPA\r\n").await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(common::PATIENCE, client.stream.read_to_end(&mut rest)).await;
    drop(read.expect("it is closed"));
    // HTTP, and an endless line.
    let mut client = server.plain().await;
    client.expect("+OK").await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    for _ in 0..3 {
        client.expect("-ERR").await;
    }
    let block = "x".repeat(1 << 20);
    for _ in 0..64 {
        client.send(&block).await;
    }
    client.send("\r\nNOOP\r\n").await;
    client.expect("-ERR Line too long").await;
    client.expect("-ERR Log in first").await;
    // The next one is served.
    server.login().await.send("QUIT\r\n").await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    let server = start(Pop3Config {
        write_timeout: Period(Duration::from_millis(300)),
        ..quick()
    });
    let line = format!("{}\r\n", "x".repeat(998));
    server.deliver(line.repeat(20_000).as_bytes()).await;
    let mut client = server.login().await;
    client.send("RETR 1\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut again = server.tls().await;
    again.expect("+OK").await;
    again
        .send("USER alice\r\nPASS open sesame\r\nRETR 1\r\n")
        .await;
    again.expect("+OK").await;
    again.expect("+OK 1 messages").await;
    again.expect("+OK").await;
    assert_eq!(
        again.lines().await.len(),
        20_000_000 + "Return-Path: <bob@d.test>\r\n".len()
    );
}

#[tokio::test]
async fn stopping_is_gentle() {
    let server = start(quick());
    let line = format!("{}\r\n", "x".repeat(998));
    server.deliver(line.repeat(20_000).as_bytes()).await;
    let mut idle = server.plain().await;
    idle.expect("+OK").await;
    let mut busy = server.login().await;
    busy.send("RETR 1\r\nNOOP\r\n").await;
    busy.expect("+OK").await;
    server.shutdown.cancel();
    idle.expect("-ERR [SYS/TEMP] Server is stopping").await;
    idle.expect_end().await;
    assert_eq!(
        busy.lines().await.len(),
        20_000_000 + "Return-Path: <bob@d.test>\r\n".len()
    );
    busy.expect("+OK Still here").await;
    busy.expect("-ERR [SYS/TEMP] Server is stopping").await;
    busy.expect_end().await;
    server.serving.await.unwrap();
}

#[tokio::test]
async fn pythons_client_agrees() {
    let server = start(quick());
    server.deliver(MESSAGE.as_bytes()).await;
    server.deliver(b"Subject: two\r\n\r\n1\r\n2\r\n3\r\n").await;
    let script = r#"
import poplib, ssl, sys
plain, tls, certificate = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=certificate)
pop = poplib.POP3("localhost", plain)
assert "STLS" in pop.capa()
pop.stls(context=context)
capabilities = pop.capa()
assert capabilities["SASL"] == ["PLAIN"] and "UIDL" in capabilities, capabilities
pop.user("alice")
try:
    pop.pass_("wrong")
    raise SystemExit("logged in")
except poplib.error_proto as error:
    assert b"[AUTH]" in error.args[0]
pop.user("alice@c.test"); pop.pass_("open sesame")
count, octets = pop.stat()
assert count == 2
_, lines, size = pop.retr(1)
assert lines[-4:] == [b".", b"..", b".begins", "\u00e4".encode()], lines
sizes = [int(line.split()[1]) for line in pop.list()[1]]
assert sum(sizes) == octets and sizes[0] == sum(len(line) + 2 for line in lines), (sizes, size)
assert pop.top(2, 1)[1][-2:] == [b"", b"1"]
unique = pop.uidl()[1]
pop.dele(1); pop.rset(); pop.dele(2); pop.noop(); pop.quit()
pop = poplib.POP3_SSL("localhost", tls, context=context)
pop.user("alice"); pop.pass_("open sesame")
assert pop.uidl()[1] == unique[:1]
pop.quit()
"#;
    let output = tokio::process::Command::new("python3")
        .args([
            "-c",
            script,
            &server.plain.port().to_string(),
            &server.tls.port().to_string(),
        ])
        .arg(server.certificate.certificate_file())
        .output()
        .await
        .expect("python3 is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
