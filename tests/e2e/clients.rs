//! Mail programs that submit: swaks, curl, msmtp, git, Python's smtplib.

use std::process::Command;

use crate::world::{
    ALICE, BOB, PASSWORD, World, assert_carried, body, hard_body, hard_message, run,
    run_with_input, text, with_lf,
};

#[test]
fn swaks_submits_with_starttls_and_auth() {
    let world = World::start().unwrap();
    let mut message = hard_message("swaks");
    // swaks reads lines ended by LF, stuffs dots itself, and takes a last lone dot for the end.
    message.extend_from_slice(b"the end\r\n");
    let file = world.file("message", &with_lf(&message)).unwrap();
    for mechanism in ["PLAIN", "LOGIN"] {
        run(Command::new("swaks")
            .args([
                "--server",
                "127.0.0.1",
                "--port",
                &world.server.ports.submission.to_string(),
            ])
            .args([
                "--tls",
                "--auth",
                mechanism,
                "--auth-user",
                BOB,
                "--auth-password",
                PASSWORD,
            ])
            .args([
                "--from",
                BOB,
                "--to",
                ALICE,
                "--data",
                &format!("@{}", text(&file)),
            ]))
        .unwrap();
    }
    for received in world.fetch(ALICE, 2).unwrap() {
        // swaks ends what it read from a file with an empty line of its own.
        assert_eq!(
            body(&received).trim_ascii_end(),
            body(&message).trim_ascii_end()
        );
        let header = String::from_utf8_lossy(&received);
        assert!(
            header.starts_with(&format!("Return-Path: <{BOB}>\r\n")),
            "{header}"
        );
        assert!(header.contains("by mail.here.test"), "{header}");
        assert!(header.contains("with ESMTPSA"), "{header}");
    }
}

#[test]
fn swaks_is_refused_without_tls_or_with_a_wrong_password() {
    let world = World::start().unwrap();
    let port = world.server.ports.submission.to_string();
    let attempt = |more: &[&str]| {
        let output = Command::new("swaks")
            .args([
                "--server",
                "127.0.0.1",
                "--port",
                &port,
                "--from",
                BOB,
                "--to",
                ALICE,
            ])
            .args(more)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (accepted, dialogue) = attempt(&[]);
    assert!(!accepted && dialogue.contains("530 5.7.0"), "{dialogue}");
    let (accepted, dialogue) = attempt(&[
        "--tls",
        "--auth",
        "PLAIN",
        "--auth-user",
        BOB,
        "--auth-password",
        "wrong",
    ]);
    assert!(!accepted && dialogue.contains("535 5.7.8"), "{dialogue}");
    // No AUTH is offered before TLS.
    let (accepted, dialogue) = attempt(&[
        "--auth",
        "PLAIN",
        "--auth-user",
        BOB,
        "--auth-password",
        PASSWORD,
    ]);
    assert!(!accepted && !dialogue.contains("250-AUTH"), "{dialogue}");
    assert!(
        !world.server.log("postrider").contains("battery"),
        "a password is in the log"
    );
}

#[test]
fn curl_submits_over_starttls_and_implicit_tls() {
    let world = World::start().unwrap();
    let message = hard_message("curl");
    let file = world.file("message", &message).unwrap();
    let ports = world.server.ports;
    for url in [
        format!("smtp://localhost:{}", ports.submission),
        format!("smtps://localhost:{}", ports.submissions),
    ] {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--ssl-reqd", "--url", &url])
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
    for received in world.fetch(ALICE, 2).unwrap() {
        assert_carried(&message, &received);
    }
}

#[test]
fn msmtp_submits() {
    let world = World::start().unwrap();
    let message = hard_message("msmtp");
    let password = world.file("password", PASSWORD.as_bytes()).unwrap();
    run_with_input(
        Command::new("msmtp")
            .args([
                "--host=localhost",
                &format!("--port={}", world.server.ports.submission),
            ])
            .args(["--tls=on", "--tls-starttls=on"])
            .arg(format!(
                "--tls-trust-file={}",
                text(&world.server.certificate())
            ))
            .args([
                "--auth=on",
                &format!("--user={BOB}"),
                &format!("--from={BOB}"),
            ])
            .arg(format!("--passwordeval=cat {}", text(&password)))
            .args(["--", ALICE]),
        &with_lf(&message),
    )
    .unwrap();
    let received = world.fetch(ALICE, 1).unwrap();
    assert_eq!(body(&received[0]), hard_body());
}

#[test]
fn git_sends_a_patch() {
    let world = World::start().unwrap();
    let repository = world.dir.path().join("repository");
    std::fs::create_dir(&repository).unwrap();
    let git = |arguments: &[&str]| {
        run(Command::new("/usr/bin/git")
            .current_dir(&repository)
            .env("HOME", world.dir.path())
            .args(["-c", "user.name=Bob", "-c", &format!("user.email={BOB}")])
            .args(arguments))
        .unwrap()
    };
    git(&["init", "--quiet"]);
    std::fs::write(repository.join("dots"), ".\n..\nGrüße\n").unwrap();
    git(&["add", "dots"]);
    git(&["commit", "--quiet", "--message", "Add dots"]);
    let patch = git(&["format-patch", "--stdout", "-1", "--root"]).stdout;
    std::fs::write(repository.join("0001.patch"), &patch).unwrap();
    git(&[
        "send-email",
        "--smtp-server=localhost",
        &format!("--smtp-server-port={}", world.server.ports.submission),
        "--smtp-encryption=tls",
        &format!("--smtp-ssl-cert-path={}", text(&world.server.certificate())),
        &format!("--smtp-user={BOB}"),
        &format!("--smtp-pass={PASSWORD}"),
        &format!("--from={BOB}"),
        &format!("--to={ALICE}"),
        "--confirm=never",
        "--suppress-cc=all",
        "--8bit-encoding=UTF-8",
        "--quiet",
        "0001.patch",
    ]);
    let received = world.fetch(ALICE, 1).unwrap();
    let sent = String::from_utf8(patch).unwrap();
    let (_, sent_body) = sent.split_once("\n\n").unwrap();
    // In front of it git writes whose patch it is.
    assert!(with_lf(body(&received[0])).ends_with(sent_body.as_bytes()));
}

#[test]
fn smtplib_submits_and_learns_of_unknown_recipients() {
    const SCRIPT: &str = "
import smtplib, ssl, sys
port, certificate, sender, recipient, path = sys.argv[1:6]
password = sys.stdin.readline().rstrip('\\n')
with smtplib.SMTP('localhost', int(port), timeout=20) as smtp:
    smtp.starttls(context=ssl.create_default_context(cafile=certificate))
    smtp.login(sender, password)
    refused = smtp.sendmail(sender, [recipient, 'nobody@here.test'], open(path, 'rb').read(), mail_options=['BODY=8BITMIME'])
    code, text = refused.pop('nobody@here.test')
    assert code == 550 and text.startswith(b'5.1.1'), (code, text)
    assert not refused, refused
    print(smtp.noop())
";
    let world = World::start().unwrap();
    let message = hard_message("smtplib");
    let file = world.file("message", &message).unwrap();
    run_with_input(
        Command::new("/usr/bin/python3")
            .args(["-c", SCRIPT, &world.server.ports.submission.to_string()])
            .args([&text(&world.server.certificate()), BOB, ALICE, &text(&file)]),
        format!("{PASSWORD}\n").as_bytes(),
    )
    .unwrap();
    let received = world.fetch(ALICE, 1).unwrap();
    assert_carried(&message, &received[0]);
}
