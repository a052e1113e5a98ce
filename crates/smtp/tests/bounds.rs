//! Nobody may send for ever, and nothing that a caller puts into an envelope becomes a command.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use postrider_smtp::address::{ForwardPath, ReversePath};
use postrider_smtp::client::{ClientConfig, Message, Outcome};
use postrider_smtp::envelope::{Envelope, MailParameters, RcptParameters, Recipient};
use postrider_smtp::server::Transport;
use support::client::Client;
use support::relay::relay;
use support::server::{self, Pause, Server};

#[test]
fn an_endless_command_line_ends_the_session() {
    let mut server = Server::new(server::config(), Transport::Plain);
    let piece = [b'x'; 64 * 1024];
    for _ in 0..15 {
        server.receive(&piece);
        assert_eq!(server.pause, Pause::Input);
        assert_eq!(server.buffered(), 0);
    }
    server.receive(&piece);
    server.receive(&piece);
    assert_eq!(server.pause, Pause::Closed);
    assert!(
        server
            .take_output()
            .ends_with(b"554 5.5.2 Line is too long\r\n")
    );
}

#[test]
fn an_endless_message_ends_the_session() {
    let mut server = Server::new(server::config(), Transport::Plain);
    server.receive(b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n");
    server.take_output();
    let piece = [b'x'; 1024 * 1024];
    for _ in 0..60 {
        server.receive(&piece);
        assert_eq!(server.pause, Pause::Input);
        assert!(server.take_output().is_empty());
    }
    for _ in 0..6 {
        server.receive(&piece);
    }
    assert_eq!(server.pause, Pause::Closed);
    assert_eq!(server.take_output(), b"552 5.3.4 Message is too large\r\n");
    assert!(server.stored.is_empty());
}

fn recipient(address: &str, orcpt: Option<&str>) -> Recipient {
    Recipient {
        path: ForwardPath::parse(address).unwrap(),
        parameters: RcptParameters {
            orcpt: orcpt.map(Into::into),
            ..RcptParameters::default()
        },
    }
}

fn envelope(recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        reverse_path: ReversePath::Null,
        parameters: MailParameters {
            envid: Some("x\r\nRSET".into()),
            ..MailParameters::default()
        },
        recipients,
    }
}

#[test]
fn malformed_parameters_are_left_out() {
    let mut client = Client::new(ClientConfig::new("a\r\nb"), Transport::Plain);
    client.receive(b"220 x\r\n");
    assert_eq!(client.take_output(), b"EHLO a??b\r\n");
    client.receive(b"250-x\r\n250-PIPELINING\r\n250 DSN\r\n");
    let recipients = vec![
        recipient("a@b.c", Some("rfc822;a b")),
        recipient("a@b.c", Some("utf-8;\u{e9}@b.c")),
        recipient("a@b.c", Some("rfc822;x\r\nDATA")),
    ];
    let envelope = Arc::new(envelope(recipients));
    client.send(Message { envelope, size: 1 }, b"x", &[]);
    let rcpt = "RCPT TO:<a@b.c>\r\n".repeat(3);
    let expected = format!("MAIL FROM:<>\r\n{rcpt}DATA\r\n");
    assert_eq!(String::from_utf8(client.take_output()).unwrap(), expected);
}

/// More recipients than commands may be under way at once.
#[test]
fn many_recipients_go_in_groups() {
    let mut envelope = envelope(vec![recipient("a@b.c", None); 700]);
    envelope.parameters.envid = None;
    let messages = vec![(envelope, b"Hello\r\n".to_vec())];
    let config = ClientConfig::new("client.test");
    let relayed = relay(server::config(), config, &messages, &[200]);
    assert_eq!(relayed.stored[0].envelope.recipients.len(), 700);
    let outcomes = &relayed.finished[0];
    assert_eq!(outcomes.len(), 700);
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Delivered(_))));
}
