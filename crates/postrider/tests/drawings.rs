//! What is drawn, held against text files that can be looked at. To take a changed drawing over,
//! run the tests with `UPDATE_DRAWINGS=1` and look at the difference.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::path::PathBuf;

use postrider::journey::drawing;
use postrider::term::Style;
use postrider_protocol::queue_v1::{
    Attempt, DialogueLine, Journey, JourneyEvent, Notice, Origin, OutcomeKind, Queued, Received,
    RecipientOutcome, dialogue_line::From, journey_event::What,
};

const START_US: u64 = 1_764_027_667_123_456;

fn dialogue(lines: &[(char, &str)]) -> Vec<DialogueLine> {
    lines
        .iter()
        .zip(0..)
        .map(|((who, text), number)| DialogueLine {
            from: match who {
                'C' => From::Client,
                'S' => From::Server,
                _ => From::Note,
            }
            .into(),
            text: (*text).to_owned(),
            at_us: number * 430,
        })
        .collect()
}

fn received() -> What {
    What::Received(Received {
        origin: Some(Origin {
            role: "submission".to_owned(),
            client_address: "192.0.2.7".to_owned(),
            client_name: "laptop".to_owned(),
            account: "bob@bob.test".to_owned(),
            tls: "TLSv1.3".to_owned(),
        }),
        dialogue: dialogue(&[
            ('S', "220 mail.bob.test ESMTP Postrider"),
            ('C', "EHLO laptop"),
            ('S', "250-mail.bob.test"),
            ('S', "250-PIPELINING"),
            ('S', "250-SIZE 26214400"),
            ('S', "250 STARTTLS"),
            ('C', "STARTTLS"),
            ('S', "220 2.0.0 Ready to start TLS"),
            ('N', "TLSv1.3 established"),
            ('C', "AUTH PLAIN [hidden]"),
            ('S', "235 2.7.0 Authentication successful"),
            ('C', "MAIL FROM:<bob@bob.test> SIZE=612 BODY=8BITMIME"),
            ('S', "250 2.1.0 Sender ok"),
            ('C', "RCPT TO:<alice@alice.test>"),
            ('S', "250 2.1.5 Recipient ok"),
            ('C', "DATA"),
            ('S', "354 Go ahead"),
            ('C', "[612 octets of content]"),
            ('C', "."),
        ]),
    })
}

fn attempt(number: u32, kind: OutcomeKind, reply: (u32, &str, &str), next_us: u64) -> What {
    let (reply_code, enhanced_status, reply_text) = reply;
    What::Attempt(Attempt {
        destination: "smtp:alice.test".to_owned(),
        number,
        started_us: START_US + 60_000_000 * u64::from(number),
        ended_us: START_US + 60_000_000 * u64::from(number) + 7_700,
        remote_host: "mx.alice.test".to_owned(),
        remote_address: "192.0.2.9:25".to_owned(),
        tls: String::new(),
        outcomes: vec![RecipientOutcome {
            address: "alice@alice.test".to_owned(),
            kind: kind.into(),
            reply_code,
            enhanced_status: enhanced_status.to_owned(),
            reply_text: reply_text.to_owned(),
            from_remote: true,
        }],
        dialogue: dialogue(&[
            ('S', "220 mx.alice.test ESMTP \u{1b}[31mred\u{1b}[0m"),
            ('C', "EHLO mail.bob.test"),
            ('S', "250 mx.alice.test"),
            ('C', "MAIL FROM:<bob@bob.test>"),
            ('S', "250 2.1.0 Ok"),
            ('C', "RCPT TO:<alice@alice.test>"),
            ('S', &format!("{reply_code} {enhanced_status} {reply_text}")),
        ]),
        next_attempt_us: next_us,
    })
}

fn journey() -> Journey {
    let event = |after_us, instance: &str, what| JourneyEvent {
        time_us: START_US + after_us,
        instance: instance.to_owned(),
        what: Some(what),
    };
    let greylisted = (
        450,
        "4.2.0",
        "Greylisted, come back in five minutes please, we mean it",
    );
    let events = vec![
        event(8_000, "edge@bob", received()),
        event(
            9_000,
            "queue@bob",
            What::Queued(Queued {
                reverse_path: "bob@bob.test".to_owned(),
                recipients: vec!["alice@alice.test".to_owned()],
                size: 612,
            }),
        ),
        event(
            60_008_000,
            "delivery@bob",
            attempt(1, OutcomeKind::Deferred, greylisted, START_US + 360_000_000),
        ),
        event(
            90_000_000,
            "queue@bob",
            What::Notice(Notice {
                text: "due now".to_owned(),
                operator: "carol".to_owned(),
                dsn_queue_id: String::new(),
            }),
        ),
        event(
            120_008_000,
            "delivery@bob",
            attempt(2, OutcomeKind::Delivered, (250, "2.1.5", "Ok"), 0),
        ),
    ];
    Journey {
        queue_id: "01kbfvgx3r0000000000000000".to_owned(),
        message_id: "dot@bob.test".to_owned(),
        reverse_path: "bob@bob.test".to_owned(),
        events,
        ended: true,
    }
}

fn compare(name: &str, lines: &[String], style: Style) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/drawings/{name}.txt"));
    let drawn = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_DRAWINGS").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    assert_eq!(drawn, known, "{} shows something else", path.display());
    assert!(
        !drawn.contains('\u{1b}'),
        "a remote's escape sequence reached the terminal"
    );
    for line in lines {
        assert!(line.chars().count() <= style.width, "too wide: {line}");
    }
}

#[test]
fn a_journey_with_a_deferral() {
    for width in [80, 100, 120] {
        let unicode = Style {
            width,
            colour: false,
            unicode: true,
        };
        compare(
            &format!("deferral-{width}"),
            &drawing::draw(&journey(), unicode),
            unicode,
        );
    }
    let ascii = Style::plain(80);
    let lines = drawing::draw(&journey(), ascii);
    assert!(lines.iter().all(|line| line.is_ascii()));
    compare("deferral-ascii", &lines, ascii);
}

#[test]
fn colours_are_only_colours() {
    let mut style = Style {
        width: 100,
        colour: true,
        unicode: true,
    };
    let coloured = drawing::draw(&journey(), style).join("\n");
    style.colour = false;
    let plain = drawing::draw(&journey(), style).join("\n");
    assert!(coloured.contains('\u{1b}'));
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
}
