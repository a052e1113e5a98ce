//! Postfix as the other server, in both directions.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use postrider_nameserver::{NameServer, Zones};
use postrider_tests::postfix::{self, Postfix};
use postrider_tests::server::Settings;

use crate::world::{
    ALICE, BOB, PASSWORD, World, body, hard_body, hard_message, run, settings, text, with_lf,
};

const CAROL: &str = "carol@far.test";

/// A Postfix that keeps mailboxes of far.test, a name server that leads there, and a server of
/// here.test that asks it.
struct Two {
    here: World,
    far: Postfix,
    _names: NameServer,
    _runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Two {
    fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(vec!["mx.far.test".to_owned()]).unwrap();
        let (certificate_file, key_file) = (
            dir.path().join("certificate.pem"),
            dir.path().join("key.pem"),
        );
        std::fs::write(&certificate_file, key.cert.pem()).unwrap();
        std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
        let far = Postfix::start(
            &dir.path().join("postfix"),
            &postfix::Settings {
                hostname: "mx.far.test".to_owned(),
                domains: vec!["far.test".to_owned()],
                mailboxes: vec![
                    CAROL.to_owned(),
                    "dave@far.test".to_owned(),
                    "erin@far.test".to_owned(),
                ],
                tls: Some((certificate_file, key_file)),
                ..postfix::Settings::default()
            },
        )
        .unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut zones = Zones::default();
        zones
            .zone("far.test")
            .unwrap()
            .mx("far.test", 10, "mx.far.test")
            .unwrap()
            .address("mx.far.test", [127, 0, 0, 1].into())
            .unwrap();
        let names = runtime.block_on(NameServer::start_quiet(zones)).unwrap();
        let mut settings = Settings {
            dns: Some((names.address(), far.port)),
            ..settings()
        };
        change(&mut settings);
        Self {
            here: World::start_with(&settings).unwrap(),
            far,
            _names: names,
            _runtime: runtime,
            _dir: dir,
        }
    }

    /// Bob submits a message.
    fn submit(&self, message: &[u8], recipients: &[&str]) {
        let file = self.here.file("message", message).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--ssl-reqd"])
            .args([
                "--url",
                &format!("smtps://localhost:{}", self.here.server.ports.submissions),
            ])
            .args(["--cacert", &text(&self.here.server.certificate())])
            .args([
                "--user",
                &format!("{BOB}:{PASSWORD}"),
                "--mail-from",
                BOB,
                "--upload-file",
                &text(&file),
            ]);
        for recipient in recipients {
            curl.args(["--mail-rcpt", recipient]);
        }
        run(&mut curl).unwrap();
    }

    /// What Postfix has in a mailbox, once there are so many messages.
    fn far_mailbox(&self, address: &str, expected: usize) -> Vec<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let messages = self.far.mailbox(address).unwrap();
            if messages.len() >= expected {
                return messages;
            }
            assert!(
                Instant::now() < end,
                "{address} has {} of {expected}; postfix: {}; postrider: {}",
                messages.len(),
                self.far.log(),
                self.here.server.logs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn postfix_receives_by_mx_over_tls() {
    let two = Two::start(|_| {});
    two.submit(
        &hard_message("far"),
        &[CAROL, "dave@far.test", "erin@far.test"],
    );
    for address in [CAROL, "dave@far.test", "erin@far.test"] {
        let messages = two.far_mailbox(address, 1);
        let stored = String::from_utf8(messages[0].clone()).unwrap();
        let (header, stored_body) = stored.split_once("\n\n").unwrap();
        assert_eq!(stored_body.as_bytes(), with_lf(&hard_body()));
        assert!(header.contains("(using TLSv1.3"), "{header}");
        assert!(
            header.starts_with(&format!("Return-Path: <{BOB}>\n")),
            "{header}"
        );
    }
    assert!(
        two.far.log().contains("nrcpt=3"),
        "three recipients, one transaction: {}",
        two.far.log()
    );
}

#[test]
fn postfix_refuses_a_recipient_and_bob_hears_of_it() {
    let two = Two::start(|_| {});
    two.submit(&hard_message("refused"), &["nobody@far.test", CAROL]);
    assert_eq!(
        two.far_mailbox(CAROL, 1).len(),
        1,
        "the other recipient gets it"
    );
    let dsn = String::from_utf8(two.here.fetch(BOB, 1).unwrap().remove(0)).unwrap();
    for expected in [
        "Return-Path: <>\r\n",
        "Content-Type: multipart/report",
        "Reporting-MTA: dns; mail.here.test\r\n",
        "Final-Recipient: rfc822; nobody@far.test\r\n",
        "Action: failed\r\n",
        "Status: 5.1.1\r\n",
        "Remote-MTA: dns; mx.far.test",
        "Subject: refused\r\n",
    ] {
        assert!(dsn.contains(expected), "no {expected:?} in:\n{dsn}");
    }
    assert!(
        !dsn.contains(CAROL) || dsn.matches("Final-Recipient").count() == 1,
        "{dsn}"
    );
    let journey = two
        .here
        .server
        .cli(&["journey", "refused@here.test"])
        .unwrap();
    assert!(journey.contains("550"), "{journey}");
}

#[test]
fn postfix_that_is_away_is_tried_until_the_lifetime_ends() {
    let two = Two::start(|settings| {
        // Nothing listens there.
        let (resolver, _): (SocketAddr, u16) = settings.dns.unwrap();
        settings.dns = Some((resolver, postrider_tests::peers::free_port()));
        settings.environment = vec![("POSTRIDER__QUEUE__LIFETIME", "3s".to_owned())];
    });
    two.submit(&hard_message("expired"), &[CAROL]);
    let listing = two.here.server.cli(&["queue", "list"]).unwrap();
    assert!(listing.contains("smtp:far.test"), "{listing}");
    let dsn = String::from_utf8(two.here.fetch(BOB, 1).unwrap().remove(0)).unwrap();
    assert!(
        dsn.contains("Final-Recipient: rfc822; carol@far.test\r\n"),
        "{dsn}"
    );
    assert!(
        dsn.contains("Status: 4.4.") || dsn.contains("Status: 5.4."),
        "{dsn}"
    );
    let journey = two
        .here
        .server
        .cli(&["journey", "--json", "expired@here.test"])
        .unwrap();
    let journey: serde_json::Value = serde_json::from_str(&journey).unwrap();
    let attempts = journey.to_string().matches("\"attempt\"").count();
    assert!(attempts >= 2, "it was tried again: {journey}");
}

#[test]
fn a_domain_that_does_not_exist_fails_at_once() {
    let two = Two::start(|_| {});
    two.submit(&hard_message("nowhere"), &["someone@missing.far.test"]);
    let dsn = String::from_utf8(two.here.fetch(BOB, 1).unwrap().remove(0)).unwrap();
    assert!(dsn.contains("Status: 5.1.2\r\n"), "{dsn}");
}

#[test]
fn postfix_sends_to_us() {
    let world = World::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let far = Postfix::start(
        dir.path(),
        &postfix::Settings {
            hostname: "mx.far.test".to_owned(),
            relayhost: Some(format!("[127.0.0.1]:{}", world.server.ports.mx)),
            extra: "smtp_tls_security_level = may\nsmtp_tls_loglevel = 1\n".to_owned(),
            ..postfix::Settings::default()
        },
    )
    .unwrap();
    let message = with_lf(&hard_message("from-postfix"));
    far.sendmail(CAROL, &[ALICE, BOB], &message).unwrap();
    for address in [ALICE, BOB] {
        let received = world.fetch(address, 1).unwrap().remove(0);
        assert_eq!(body(&received), hard_body());
        let header = String::from_utf8_lossy(&received).into_owned();
        assert!(
            header.starts_with(&format!("Return-Path: <{CAROL}>\r\n")),
            "{header}"
        );
        assert!(header.contains("with ESMTPS"), "{header}");
    }
    far.sendmail(CAROL, &["nobody@here.test"], &message)
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !far.log().contains("550 5.1.1") {
        assert!(Instant::now() < end, "{}", far.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}
