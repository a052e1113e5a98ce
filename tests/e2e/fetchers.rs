//! Mail programs that fetch: curl, fetchmail, mpop (Python's poplib fetches in all other tests).

use std::process::Command;

use crate::world::{
    ALICE, BOB, PASSWORD, World, assert_carried, hard_body, hard_message, run, text, with_lf,
};

/// A server with two messages in alice's mailbox.
fn with_mail() -> (World, Vec<u8>) {
    let world = World::start().unwrap();
    let message = hard_message("fetched");
    let file = world.file("message", &message).unwrap();
    for _ in 0..2 {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--ssl-reqd"])
            .args([
                "--url",
                &format!("smtps://localhost:{}", world.server.ports.submissions),
            ])
            .args(["--cacert", &text(&world.server.certificate())])
            .args(["--user", &format!("{BOB}:{PASSWORD}")])
            .args([
                "--mail-from",
                BOB,
                "--mail-rcpt",
                ALICE,
                "--upload-file",
                &text(&file),
            ]))
        .unwrap();
    }
    world.fetch(ALICE, 2).unwrap();
    (world, message)
}

#[test]
fn curl_fetches_and_deletes() {
    let (world, message) = with_mail();
    let ports = world.server.ports;
    let curl = |url: &str, more: &[&str]| {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--ssl-reqd", "--url", url])
            .args(["--cacert", &text(&world.server.certificate())])
            .args(["--user", &format!("{ALICE}:{PASSWORD}")])
            .args(more))
        .unwrap()
        .stdout
    };
    let (tls, stls) = (
        format!("pop3s://localhost:{}", ports.pop3s),
        format!("pop3://localhost:{}", ports.pop3),
    );
    for base in [&tls, &stls] {
        assert_carried(&message, &curl(&format!("{base}/1"), &[]));
        let listing = String::from_utf8(curl(base, &[])).unwrap();
        assert_eq!(listing.lines().count(), 2, "{listing}");
    }
    let uids = |text: Vec<u8>| -> Vec<String> {
        String::from_utf8(text)
            .unwrap()
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.1.trim().to_owned()))
            .collect()
    };
    let before = uids(curl(&tls, &["--request", "UIDL"]));
    curl(&format!("{tls}/1"), &["--request", "DELE", "--list-only"]);
    let after = uids(curl(&tls, &["--request", "UIDL"]));
    assert_eq!(before.len(), 2);
    assert_eq!(
        after,
        before[1..],
        "unique ids are stable, and the first message is gone"
    );
}

#[test]
fn fetchmail_fetches_and_empties_the_maildrop() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _) = with_mail();
    let ports = world.server.ports;
    let out = world.dir.path().join("fetched");
    for (port, ssl) in [(ports.pop3s, "ssl"), (ports.pop3, "sslproto tls1.2+")] {
        let config = format!(
            "set invisible\nset no bouncemail\npoll localhost protocol pop3 port {port}\n\
             user {ALICE:?} password {password} {ssl} sslcertfile {certificate:?} sslcertck\n\
             keep fetchall no rewrite mda \"cat >> {out}\"\n",
            password = quoted(PASSWORD),
            certificate = text(&world.server.certificate()),
            out = text(&out),
        );
        let file = world.file("fetchmailrc", config.as_bytes()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        run(Command::new("fetchmail")
            .env("HOME", world.dir.path())
            .args(["--nodetach", "--nosyslog", "--fetchmailrc", &text(&file)])
            .args(["--idfile", &text(&world.dir.path().join("ids"))])
            .args(["--pidfile", &text(&world.dir.path().join("pid"))]))
        .unwrap();
    }
    let fetched = std::fs::read(&out).unwrap();
    let times = memchr::memmem::find_iter(&fetched, &with_lf(&hard_body())).count();
    assert_eq!(
        times,
        4,
        "two messages, fetched twice: {}",
        String::from_utf8_lossy(&fetched)
    );
}

/// A string as fetchmail's file wants it.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\042"))
}

#[test]
fn mpop_fetches_into_a_maildir_and_deletes() {
    let (world, _) = with_mail();
    let password = world.file("password", PASSWORD.as_bytes()).unwrap();
    let out = world.dir.path().join("maildir");
    for folder in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(out.join(folder)).unwrap();
    }
    let mpop = || {
        run(Command::new("mpop")
            .env("HOME", world.dir.path())
            .args([
                "--host=localhost",
                &format!("--port={}", world.server.ports.pop3),
            ])
            .args(["--tls=on", "--tls-starttls=on"])
            .arg(format!(
                "--tls-trust-file={}",
                text(&world.server.certificate())
            ))
            .args(["--auth=plain", &format!("--user={ALICE}")])
            .arg(format!("--passwordeval=cat {}", text(&password)))
            .arg(format!(
                "--uidls-file={}",
                text(&world.dir.path().join("uidls"))
            ))
            .args(["--keep=off", &format!("--delivery=maildir,{}", text(&out))]))
        .unwrap()
    };
    mpop();
    let files: Vec<_> = std::fs::read_dir(out.join("new"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let mut stored = std::fs::read(file).unwrap();
        stored = with_lf(&stored);
        assert!(stored.ends_with(&with_lf(&hard_body())));
    }
    assert_eq!(
        world.fetch(ALICE, 0).unwrap().len(),
        0,
        "fetched messages are deleted"
    );
}
