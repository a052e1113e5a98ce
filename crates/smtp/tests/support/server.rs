//! A driver of the server session, with a fixed policy.

use std::sync::Arc;

use postrider_smtp::datetime::DateTime;
use postrider_smtp::envelope::Envelope;
use postrider_smtp::output::Output;
use postrider_smtp::reply::Reply;
use postrider_smtp::server::{
    Answer, Event, Question, Session, SessionConfig, TlsPolicy, Transport, Wait,
};
use postrider_smtp::status::EnhancedStatus;

/// A message as the server has accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub envelope: Envelope,
    pub content: Vec<u8>,
    pub eight_bit: bool,
}

/// Why the driver can't go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Input,
    Handshake,
    Closed,
}

pub struct Server {
    pub session: Session,
    pub output: Output,
    pub stored: Vec<Stored>,
    pub pause: Pause,
    /// Command lines and responses that were answered; see `harness`.
    pub dropped: usize,
    input: Vec<u8>,
    body: Vec<u8>,
}

/// 2026-11-25T10:00:00Z
const NOW: DateTime = DateTime(1_795_600_800);

/// A server that offers and takes everything.
pub fn config() -> SessionConfig {
    let mut config = SessionConfig::new("mx.test");
    config.tls = TlsPolicy::Offered;
    config.auth = true;
    config.content.size = 100_000;
    config
}

impl Server {
    pub fn new(config: SessionConfig, transport: Transport) -> Self {
        let mut server = Self {
            session: Session::new(Arc::new(config), transport),
            output: Output::with_outline(),
            stored: Vec::new(),
            pause: Pause::Input,
            dropped: 0,
            input: Vec::new(),
            body: Vec::new(),
        };
        server.session.tell_time(NOW);
        server.run();
        server
    }

    /// Takes what the client sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.run();
    }

    pub fn tls_established(&mut self) {
        self.session.tls_established();
        self.run();
    }

    pub fn time_out(&mut self) {
        self.session.time_out(&mut self.output);
        self.run();
    }

    pub fn shut_down(&mut self) {
        self.session.shut_down(&mut self.output);
        self.run();
    }

    /// What it said since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output.bytes)
    }

    /// Octets that the session has left in the buffer.
    pub fn buffered(&self) -> usize {
        self.input.len()
    }

    fn run(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut consumed = 0;
        self.pause = loop {
            let (length, event) = self.session.receive(&input[consumed..], &mut self.output);
            let mut pause = None;
            let answer = match event {
                Event::NeedMore => {
                    pause = Some(Pause::Input);
                    None
                }
                Event::AnswerDue => {
                    // Only the handshake is not answered at once.
                    pause = Some(Pause::Handshake);
                    None
                }
                Event::StartTls => {
                    pause = Some(Pause::Handshake);
                    None
                }
                Event::Close => {
                    pause = Some(Pause::Closed);
                    None
                }
                Event::Content(piece) => {
                    assert!(!piece.is_empty());
                    self.body.extend_from_slice(piece);
                    None
                }
                Event::ContentDropped(_) => {
                    self.dropped += 1;
                    self.body.clear();
                    None
                }
                Event::Ask(Question::EndOfMessage { envelope, content }) => {
                    let message = Stored {
                        envelope,
                        content: std::mem::take(&mut self.body),
                        eight_bit: content.eight_bit,
                    };
                    assert_eq!(content.size, message.content.len() as u64);
                    Some(store(message, &mut self.stored))
                }
                Event::Ask(question) => Some(answer(&question)),
            };
            consumed += length;
            if let Some(answer) = answer {
                assert_eq!(self.session.wait(), Wait::Driver);
                self.session.answer(answer, &mut self.output);
            }
            if let Some(pause) = pause {
                break pause;
            }
        };
        self.input = input[consumed..].to_vec();
    }
}

fn store(message: Stored, stored: &mut Vec<Stored>) -> Answer {
    if message.content.starts_with(b"X-Test: later") {
        return refuse(451, EnhancedStatus::transient(3, 1), "Queue is full");
    }
    if message.content.starts_with(b"X-Test: spam") {
        return refuse(550, EnhancedStatus::permanent(7, 1), "No, thanks");
    }
    if message.content.starts_with(b"X-Test: senseless answer") {
        return Answer::Accept;
    }
    stored.push(message);
    Answer::Stored(format!("q{}", stored.len()).into())
}

fn answer(question: &Question<'_>) -> Answer {
    match question {
        Question::Helo { name, .. } if *name == "banned.test" => {
            refuse(550, EnhancedStatus::permanent(7, 1), "Not you")
        }
        Question::Mail { reverse_path, .. } => by_name(reverse_path.as_str()),
        Question::Rcpt { recipient, .. } => by_name(recipient.path.as_str()),
        Question::Authenticate { credentials, .. } => {
            match (&*credentials.user, credentials.password.as_str()) {
                ("bob", "secret") => Answer::Authenticated,
                ("busy", _) => refuse(454, EnhancedStatus::transient(7, 0), "Try later"),
                _ => Answer::Denied,
            }
        }
        Question::Content { envelope } if envelope.reverse_path.as_str().starts_with("nodata@") => {
            refuse(554, EnhancedStatus::permanent(7, 1), "No content from you")
        }
        _ => Answer::Accept,
    }
}

fn by_name(address: &str) -> Answer {
    match address.split('@').next() {
        Some("unknown") => refuse(550, EnhancedStatus::permanent(1, 1), "No such user"),
        Some("later") => refuse(450, EnhancedStatus::transient(2, 0), "Try later"),
        Some("closing") => {
            Answer::RefuseAndClose(Reply::new(421, EnhancedStatus::transient(7, 0), "Go away"))
        }
        _ => Answer::Accept,
    }
}

fn refuse(code: u16, status: EnhancedStatus, text: &'static str) -> Answer {
    Answer::Refuse(Reply::new(code, status, text))
}
