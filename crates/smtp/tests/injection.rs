//! What arrives in clear together with STARTTLS or its reply never counts as come under TLS
//! (RFC 3207 section 5).
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use postrider_smtp::client::{ClientConfig, FailureKind};
use postrider_smtp::server::Transport;
use support::client::{self, Client};
use support::server::{self, Server};

#[test]
fn commands_behind_starttls_are_dropped() {
    let mut server = Server::new(server::config(), Transport::Plain);
    server.receive(
        b"EHLO client.test\r\nSTARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@example.org>\r\n",
    );
    assert_eq!(server.pause, server::Pause::Handshake);
    assert_eq!(server.buffered(), 0);
    server.take_output();
    server.tls_established();
    assert!(server.take_output().is_empty());
    assert_eq!(server.session.client_name(), None);
    server.receive(b"MAIL FROM:<bob@example.org>\r\n");
    assert_eq!(server.take_output(), b"503 5.5.1 Send EHLO first\r\n");
}

#[test]
fn replies_behind_that_to_starttls_end_the_session() {
    let mut client = Client::new(ClientConfig::new("client.test"), Transport::Plain);
    client.receive(b"220 mx.test\r\n250-mx.test\r\n250 STARTTLS\r\n220 go\r\n250 mx.test\r\n");
    assert_eq!(client.pause, client::Pause::Closed);
    assert_eq!(client.failed.unwrap().kind, FailureKind::Protocol);
}
