//! What holds for any message, any split, any bytes.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use postrider_smtp::address::{ForwardPath, ReversePath};
use postrider_smtp::client::{ClientConfig, Outcome};
use postrider_smtp::data::ContentProblem;
use postrider_smtp::envelope::{
    DsnReturn, Envelope, MailParameters, Notify, RcptParameters, Recipient,
};
use postrider_smtp::extension::Extensions;
use postrider_smtp::server::Transport;
use proptest::prelude::*;

use support::harness;
use support::relay::relay;
use support::server::{self, Server};

/// Content in lines of CRLF, rich in dots, 8-bit octets and empty lines; the last line may lack
/// its end.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(Vec::new()),
        Just(b".".to_vec()),
        Just(b"..".to_vec()),
        Just(b"\0".to_vec()),
        "\\.{0,2}[a-z. ]{0,100}".prop_map(String::into_bytes),
        prop::collection::vec(
            prop::num::u8::ANY.prop_filter("no line end", |b| !b"\r\n".contains(b)),
            0..80
        ),
    ];
    (prop::collection::vec(line, 0..12), any::<bool>()).prop_map(|(lines, ended)| {
        let mut content = lines.join(&b"\r\n"[..]);
        if ended && !content.is_empty() {
            content.extend_from_slice(b"\r\n");
        }
        content
    })
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9+!#]{1,20}(\\.[a-z0-9]{1,10}){0,2}@[a-z0-9]{1,10}(\\.[a-z]{2,8}){0,3}",
        "\"[ -!#-\\[\\]-~]{0,20}\"@example\\.org",
        "[a-z]{1,8}@\\[192\\.0\\.2\\.[1-9]\\]",
        "[a-zäöüß]{1,8}@[a-zäöü]{1,8}\\.example",
    ]
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let reverse_path = prop_oneof![
        Just(ReversePath::Null),
        address().prop_map(|text| ReversePath::parse(&text).unwrap()),
    ];
    let recipient = (
        prop_oneof![
            Just(ForwardPath::Postmaster),
            address().prop_map(|text| ForwardPath::parse(&text).unwrap()),
        ],
        prop::sample::select(vec![0u8, 1, 2, 4, 8, 6, 14]),
        prop::option::of("rfc822;[a-z]{1,10}"),
    )
        .prop_map(|(path, notify, orcpt)| Recipient {
            path,
            parameters: RcptParameters {
                notify: Notify::from_bits(notify).unwrap(),
                orcpt: orcpt.map(Into::into),
            },
        });
    let ret = prop::option::of(prop::sample::select(vec![
        DsnReturn::Full,
        DsnReturn::Headers,
    ]));
    (
        reverse_path,
        prop::collection::vec(recipient, 1..6),
        ret,
        prop::option::of("[a-z]{1,20}(\\+2B)?"),
    )
        .prop_map(|(reverse_path, recipients, ret, envid)| Envelope {
            reverse_path,
            parameters: MailParameters {
                size: None,
                eight_bit_mime: true,
                smtputf8: true,
                ret,
                envid: envid.map(Into::into),
                ..MailParameters::default()
            },
            recipients,
        })
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![1]),
        Just(vec![255, 255]),
        prop::collection::vec(1u8..40, 1..8),
        prop::collection::vec(any::<u8>(), 1..8),
    ]
}

proptest! {
    // A failure prints the smallest input that fails; it belongs into a test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Any message in any envelope arrives as it was sent, however the bytes are cut, over
    /// plain connections and TLS, with PIPELINING and without.
    #[test]
    fn messages_arrive_as_they_were_sent(
        messages in prop::collection::vec((envelope(), content()), 1..4),
        pieces in pieces(),
        pipelining in any::<bool>(),
    ) {
        let mut config = server::config();
        if !pipelining {
            config.extensions = config.extensions.without(Extensions::PIPELINING);
        }
        let relayed = relay(config, ClientConfig::new("client.test"), &messages, &pieces);
        prop_assert!(relayed.failed.is_none());
        prop_assert_eq!(relayed.stored.len(), messages.len());
        prop_assert_eq!(relayed.finished.len(), messages.len());
        for ((sent, body), (stored, outcomes)) in
            messages.iter().zip(relayed.stored.iter().zip(&relayed.finished))
        {
            prop_assert_eq!(&stored.content, &harness::normalized(body));
            prop_assert_eq!(stored.eight_bit, !body.is_ascii());
            let mut expected = sent.clone();
            expected.parameters.size = Some(body.len() as u64);
            prop_assert_eq!(&stored.envelope, &expected);
            prop_assert_eq!(outcomes.len(), sent.recipients.len());
            let all_delivered = outcomes.iter().all(|o| matches!(o, Outcome::Delivered(_)));
            prop_assert!(all_delivered);
        }
    }

    /// Content survives stuffing and decoding, whatever it is and however it is cut.
    #[test]
    fn content_roundtrip(cut in any::<u8>(), content in content(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        harness::data_roundtrip(&[&[cut], &content[..]].concat());
        harness::data_roundtrip(&[&[cut], &noise[..]].concat());
    }

    /// Whatever follows DATA, the message ends at the first CRLF.CRLF and nowhere else, and is
    /// taken only if no bare CR or LF is in it. The server's own idea of the rest shows in what
    /// it does with the NOOPs that we put at the true end.
    #[test]
    fn only_crlf_dot_crlf_ends_a_message(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "\r\n", "\n", "\r", ".", "..", "a", "\r\n.", ".\r", ".\n", "\n.\r\n", "\r.\r", "\u{e9}",
                "MAIL FROM:<evil@example.org>", "\0",
            ]),
            0..40,
        ),
        pieces in pieces(),
    ) {
        let noise = parts.concat().into_bytes();
        let mut wire = noise;
        wire.extend_from_slice(b"x\r\n.\r\n");
        // The definition, in its slowest form.
        let framed = [b"\r\n", &wire[..]].concat();
        let end = framed.windows(5).position(|five| five == b"\r\n.\r\n").unwrap() + 5 - 2;
        let message = &wire[..end];
        let mut server = Server::new(server::config(), Transport::Plain);
        server.receive(b"EHLO a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n");
        server.take_output();
        for piece in support::cut(message, &pieces) {
            prop_assert_eq!(server.session.wait(), postrider_smtp::server::Wait::Content);
            prop_assert!(server.take_output().is_empty());
            server.receive(piece);
        }
        prop_assert_eq!(server.session.wait(), postrider_smtp::server::Wait::Command);
        let lines = &message[..message.len() - 3];
        let mut rest = String::from_utf8_lossy(lines).replace("\r\n", "");
        rest.retain(|c| c == '\r' || c == '\n');
        let (replies, _) = harness::replies(&[&server.take_output()]);
        prop_assert_eq!(replies.len(), 1);
        if rest.is_empty() {
            prop_assert_eq!(replies[0].code(), 250);
            prop_assert_eq!(server.stored.len(), 1);
        } else {
            prop_assert_eq!(&replies[0], &ContentProblem::BareLineEnd.reply());
            prop_assert_eq!(server.stored.len(), 0);
        }
    }

    /// Each command gets one reply, in order, whatever the commands and the cuts.
    #[test]
    fn one_reply_a_command(
        commands in prop::collection::vec(prop::sample::select(COMMANDS.to_vec()), 0..60),
        pieces in pieces(),
    ) {
        let mut config = server::config();
        config.limits.errors = 1000;
        let mut server = Server::new(config, Transport::Plain);
        let input: String = commands.iter().map(|(command, _)| format!("{command}\r\n")).collect();
        let mut said = Vec::new();
        for piece in support::cut(input.as_bytes(), &pieces) {
            server.receive(piece);
            said.extend(server.take_output());
        }
        said.extend(server.take_output());
        let (replies, good) = harness::replies(&[&said]);
        prop_assert!(good);
        prop_assert_eq!(replies.len(), commands.len() + 1);
        for (reply, (command, codes)) in replies[1..].iter().zip(&commands) {
            prop_assert!(codes.contains(&reply.code()), "{}: {}", command, reply);
        }
    }

    /// Garbage and near-misses.
    #[test]
    fn any_bytes_to_the_server(choice in any::<u8>(), cut in any::<u8>(), parts in noise()) {
        harness::server_session(&[&[choice, cut], &parts[..]].concat());
    }

    #[test]
    fn any_bytes_to_the_client(choice in any::<u8>(), cut in any::<u8>(), replies in replies()) {
        harness::client_session(&[&[choice, cut], &replies[..]].concat());
    }

    #[test]
    fn addresses(text in prop_oneof![address(), "\\PC{0,40}", "[a-z<>@\"\\\\.:\\[\\]]{0,30}"]) {
        harness::address(text.as_bytes());
    }

    #[test]
    fn commands(
        verb in prop::sample::select(vec!["MAIL FROM:", "rcpt to: ", "EHLO ", ""]),
        address in address(),
        rest in prop_oneof![Just(" SMTPUTF8 BODY=8BITMIME".to_owned()), Just(" NOTIFY=SUCCESS,DELAY".to_owned()), Just(" HOLDUNTIL=2026-11-25T10:00:00.1+01:00 MT-PRIORITY=-1".to_owned()), "\\PC{0,40}"],
    ) {
        harness::command(format!("{verb}<{address}>{rest}").as_bytes());
    }

    #[test]
    fn replies_in_any_cut(cut in any::<u8>(), replies in replies()) {
        harness::reply(&[&[cut], &replies[..]].concat());
    }
}

const COMMANDS: [(&str, &[u16]); 16] = [
    ("NOOP", &[250]),
    ("RSET", &[250]),
    ("EHLO client.test", &[250]),
    ("HELO client.test", &[250]),
    ("HELO banned.test", &[550]),
    ("MAIL FROM:<bob@example.org>", &[250, 503]),
    ("MAIL FROM:<unknown@example.org>", &[550, 503]),
    ("RCPT TO:<alice@example.org>", &[250, 503]),
    ("RCPT TO:<later@example.org>", &[450, 503]),
    ("RCPT TO:<alice>", &[501]),
    ("VRFY alice", &[252]),
    ("EXPN list", &[502]),
    ("HELP", &[214]),
    ("AUTH PLAIN AGJvYgBzZWNyZXQ=", &[538]),
    ("nonsense", &[500]),
    ("", &[500]),
];

/// Pieces of sessions in any order.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            "EHLO client.test\r\n", "MAIL FROM:<bob@example.org> SIZE=10\r\n", "RCPT TO:<alice@example.org>\r\n",
            "DATA\r\n", "Hello\r\n", ".\r\n", "..\r\n", "BDAT 5\r\n", "BDAT 7 LAST\r\n", "BDAT 2000\r\n", "Hel\r\n",
            "RSET\r\n", "QUIT\r\n", "STARTTLS\r\n", "AUTH PLAIN\r\n", "AGJvYgBzZWNyZXQ=\r\n", "AUTH LOGIN\r\n", "Ym9i\r\n",
            "c2VjcmV0\r\n", "*\r\n", "\n", "\r", "GET / HTTP/1.1\r\n", "\x16\x03\x01", "X-Test: later\r\n",
            "RCPT TO:<unknown@example.org>\r\n", "MAIL FROM:<nodata@example.org>\r\n", "RCPT TO:<closing@example.org>\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (1usize..1500).prop_map(|n| vec![b'x'; n]),
    ];
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

fn replies() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => prop::sample::select(vec![
            "220 mx.test ESMTP\r\n", "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 DSN\r\n", "250 OK\r\n",
            "250-mx.test\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n", "354 go\r\n", "250 2.0.0 OK\r\n", "450 4.2.0 later\r\n",
            "550 5.1.1 no\r\n", "452 4.5.3 many\r\n", "552 many\r\n", "421 4.3.2 bye\r\n", "334 \r\n", "235 fine\r\n",
            "500 what\r\n", "220 go\r\n", "250-", "\r\n", "\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
}
