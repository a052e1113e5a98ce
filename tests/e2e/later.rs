//! Mail that is to be sent later, and mail that is late.

use std::process::Command;
use std::time::{Duration, Instant};

use postrider_tests::server::Settings;

use crate::world::{ALICE, BOB, PASSWORD, World, hard_message, run_with_input, settings, text};

/// Submits a message with these parameters of MAIL.
fn submit(world: &World, to: &str, options: &str) {
    const SCRIPT: &str = "
import smtplib, ssl, sys
port, certificate, sender, recipient, path, options = sys.argv[1:7]
password = sys.stdin.readline().rstrip('\\n')
with smtplib.SMTP('localhost', int(port), timeout=20) as smtp:
    smtp.starttls(context=ssl.create_default_context(cafile=certificate))
    smtp.login(sender, password)
    smtp.ehlo()
    assert smtp.has_extn('futurerelease') and smtp.has_extn('mt-priority'), smtp.esmtp_features
    smtp.sendmail(sender, [recipient], open(path, 'rb').read(), mail_options=options.split())
";
    let file = world.file("message", &hard_message("later")).unwrap();
    run_with_input(
        Command::new("/usr/bin/python3")
            .args(["-c", SCRIPT, &world.server.ports.submission.to_string()])
            .args([&text(&world.server.certificate()), BOB, to])
            .args([&text(&file), options]),
        format!("{PASSWORD}\n").as_bytes(),
    )
    .unwrap();
}

#[test]
fn a_message_is_sent_when_its_sender_wishes() {
    // Long enough for two programs to submit and one to fetch, also where much else runs.
    const HELD: Duration = Duration::from_secs(10);
    let world = World::start().unwrap();
    let begun = Instant::now();
    submit(&world, ALICE, "HOLDFOR=10 MT-PRIORITY=4");
    submit(&world, BOB, "MT-PRIORITY=-4");
    world.fetch(BOB, 1).unwrap();
    assert!(begun.elapsed() < HELD, "the other did not wait for it");
    let held = world.fetch(ALICE, 1).unwrap().remove(0);
    assert!(begun.elapsed() >= HELD, "{:?}", begun.elapsed());
    let held = String::from_utf8_lossy(&held).into_owned();
    assert!(held.contains("\r\n\tpriority 4;\r\n"), "{held}");

    let id = held.split(" id ").nth(1).unwrap();
    let id = id.split_whitespace().next().unwrap();
    let journey = world.server.cli(&["journey", id]).unwrap();
    assert!(journey.contains("to be sent at 2"), "{journey}");
}

#[test]
fn a_sender_hears_once_of_a_delay_and_then_of_the_end() {
    let nobody = postrider_tests::peers::free_port();
    let world = World::start_with(&Settings {
        relay_to: Some(([127, 0, 0, 1], nobody).into()),
        retry: Duration::from_millis(300),
        environment: vec![
            ("POSTRIDER__QUEUE__DELAY_WARNING", "1s".to_owned()),
            ("POSTRIDER__QUEUE__LIFETIME", "5s".to_owned()),
            ("POSTRIDER__DELIVERY__UNREACHABLE", "0s".to_owned()),
        ],
        ..settings()
    })
    .unwrap();
    submit(&world, "somebody@elsewhere.test", "");
    let told = world.fetch(BOB, 2).unwrap();
    let [delayed, failed] = told.as_slice() else {
        panic!("{} messages", told.len());
    };
    let delayed = String::from_utf8_lossy(delayed);
    for words in ["Action: delayed", "Status: 4.4.1", "Will-Retry-Until: "] {
        assert!(delayed.contains(words), "{words} in {delayed}");
    }
    let failed = String::from_utf8_lossy(failed);
    for words in ["Action: failed", "Status: 5.4.7", "Delivery time expired"] {
        assert!(failed.contains(words), "{words} in {failed}");
    }
}
