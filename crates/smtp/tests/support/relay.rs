//! The two sessions, connected, with the bytes between them cut anywhere.

use std::sync::Arc;

use postrider_smtp::client::{self, ClientConfig, Message, Outcome};
use postrider_smtp::envelope::Envelope;
use postrider_smtp::server::{SessionConfig, Transport};

use super::client::Client;
use super::server::{Pause, Server, Stored};

/// What came of it.
pub struct Relayed {
    pub stored: Vec<Stored>,
    pub finished: Vec<Vec<Outcome>>,
    pub failed: Option<client::Failure>,
}

/// Sends messages over one connection. `pieces` are the lengths of what arrives at once.
pub fn relay(
    server_config: SessionConfig,
    client_config: ClientConfig,
    messages: &[(Envelope, Vec<u8>)],
    pieces: &[u8],
) -> Relayed {
    let mut server = Server::new(server_config, Transport::Plain);
    let mut client = Client::new(client_config, Transport::Plain);
    let mut messages = messages.iter();
    // Each turn moves at least one octet or ends a phase; more than this is a livelock.
    for _ in 0..1_000_000 {
        let to_client = server.take_output();
        for piece in super::cut(&to_client, pieces) {
            client.receive(piece);
        }
        let to_server = client.take_output();
        for piece in super::cut(&to_server, pieces) {
            server.receive(piece);
        }
        if !to_client.is_empty() || !to_server.is_empty() {
            continue;
        }
        match client.pause {
            super::client::Pause::Handshake => {
                assert_eq!(server.pause, Pause::Handshake);
                server.tls_established();
                client.tls_established();
            }
            super::client::Pause::Ready => match messages.next() {
                Some((envelope, body)) => {
                    let message = Message {
                        envelope: Arc::new(envelope.clone()),
                        size: body.len() as u64,
                    };
                    client.send(message, body, pieces);
                }
                None => client.quit(),
            },
            super::client::Pause::Closed => {
                return Relayed {
                    stored: server.stored,
                    finished: client.finished,
                    failed: client.failed,
                };
            }
            super::client::Pause::Input if server.pause == Pause::Closed => {
                client.lost("closed by the server");
            }
            super::client::Pause::Input => panic!("both sides wait for the other"),
        }
    }
    panic!("the dialogue does not end");
}
