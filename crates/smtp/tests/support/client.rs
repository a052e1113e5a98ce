//! A driver of the client session.

use std::sync::Arc;

use postrider_smtp::client::{ClientConfig, Event, Failure, Message, Outcome, Session, Transport};
use postrider_smtp::output::Output;

/// Why the driver can't go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Input,
    Handshake,
    Ready,
    Closed,
}

pub struct Client {
    pub session: Session,
    pub output: Output,
    pub finished: Vec<Vec<Outcome>>,
    pub failed: Option<Failure>,
    pub pause: Pause,
    /// Content of the present message, and in what pieces it is sent.
    body: Vec<u8>,
    pieces: Vec<u8>,
    input: Vec<u8>,
}

impl Client {
    pub fn new(config: ClientConfig, transport: Transport) -> Self {
        let mut client = Self {
            session: Session::new(Arc::new(config), transport),
            output: Output::with_outline(),
            finished: Vec::new(),
            failed: None,
            pause: Pause::Input,
            body: Vec::new(),
            pieces: Vec::new(),
            input: Vec::new(),
        };
        client.run();
        client
    }

    /// Takes what the server sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.run();
    }

    pub fn tls_established(&mut self) {
        self.session.tls_established(&mut self.output);
        self.run();
    }

    pub fn lost(&mut self, why: &str) {
        self.session.connection_lost(why.to_owned());
        self.run();
    }

    /// Begins a transaction; its content is sent in pieces of these lengths.
    pub fn send(&mut self, message: Message, body: &[u8], pieces: &[u8]) {
        self.body = body.to_vec();
        self.pieces = pieces.to_vec();
        self.session.begin(message, &mut self.output);
        self.run();
    }

    /// What it said last was not written to its end.
    pub fn cut(&mut self) {
        self.session.output_lost();
        self.run();
    }

    pub fn quit(&mut self) {
        self.session.quit(&mut self.output);
        self.run();
    }

    /// What it said since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output.bytes)
    }

    fn run(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut consumed = 0;
        self.pause = loop {
            let (length, event) = self.session.receive(&input[consumed..], &mut self.output);
            consumed += length;
            match event {
                Event::NeedMore => {
                    let handshake =
                        self.session.phase() == postrider_smtp::client::Phase::TlsHandshake;
                    break if handshake {
                        Pause::Handshake
                    } else {
                        Pause::Input
                    };
                }
                Event::StartTls => break Pause::Handshake,
                Event::Ready => break Pause::Ready,
                Event::Closed => {
                    consumed = input.len();
                    break Pause::Closed;
                }
                Event::SendContent => {
                    for piece in super::cut(&self.body, &self.pieces) {
                        self.session.content(piece, &mut self.output);
                    }
                    self.session.end_of_content(&mut self.output);
                }
                Event::Finished(outcomes) => self.finished.push(outcomes),
                Event::Failed(failure) => self.failed = Some(failure),
            }
        };
        self.input = input[consumed..].to_vec();
    }
}
