//! The session and its states.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::auth::Exchange;
use super::chunk::Chunk;
use super::config::{SessionConfig, TlsPolicy};
use super::event::{DropReason, Event, Question};
use super::line::Overlong;
use crate::credentials::{Credentials, Mechanism};
use crate::data::{ContentDecoder, ContentSummary, LineChecker};
use crate::datetime::DateTime;
use crate::envelope::{Envelope, Recipient};
use crate::extension::Extensions;
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In clear.
    Plain,
    /// Under TLS.
    Tls,
}

/// What a session waits for, so that the driver can set a deadline (RFC 5321 section 4.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The driver's answer, or its TLS handshake.
    Driver,
    /// The next command (RFC 5321 section 4.5.3.2.7: at least five minutes).
    Command,
    /// More of a message (section 4.5.3.2.5: three minutes for each block).
    Content,
    /// Nothing: the session is over.
    Nothing,
}

/// A server's end of one SMTP connection.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Arc<SessionConfig>,
    pub(super) state: State,
    pub(super) transport: Transport,
    /// Who the client says it is, once that was accepted.
    pub(super) client: Option<Hello>,
    pub(super) authenticated: bool,
    pub(super) counts: Counts,
    /// A command line that passed its limit, whose rest is being skipped.
    pub(super) overlong: Option<Overlong>,
    /// As it was told last.
    pub(super) now: DateTime,
}

/// What the session is about. Data lives where it means something: there is no envelope outside
/// of a transaction that RSET or STARTTLS could forget to clear.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing was asked or said yet.
    Fresh,
    VettingConnection,
    /// Between transactions: waits for a command.
    Ready,
    VettingHelo(Hello),
    VettingMail(Envelope),
    /// MAIL was accepted: waits for a command.
    Transaction(Envelope),
    VettingRcpt(Envelope, Recipient),
    VettingContent(Envelope, Transfer),
    /// Content after 354.
    Content(Envelope, ContentDecoder),
    /// Octets after BDAT.
    Chunk(Chunk),
    /// Some chunks are here, the last is not: waits for a command.
    BetweenChunks(Envelope, LineChecker),
    /// A chunk was refused, and with it the transaction: waits for RSET.
    ChunksRefused,
    /// The message is the driver's.
    Storing,
    /// Waits for a response of AUTH.
    Responding(Exchange),
    Authenticating(Mechanism, Credentials),
    /// The driver does the handshake.
    Handshake,
    Closed,
}

/// What the client called itself.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) name: Box<str>,
    pub(super) esmtp: bool,
}

/// How content is to come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transfer {
    Data,
    Chunk { size: u64, last: bool },
}

/// What counts against the limits.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) errors: u32,
    pub(super) commands: u32,
    pub(super) auth_failures: u32,
    /// The last MAIL was refused: what a client pipelined behind it is refused too.
    pub(super) mail_refused: bool,
    /// Refusals since the last MAIL that a well-behaved client may run into.
    pub(super) spared: usize,
}

/// What a piece of input led to; becomes an [`Event`] without borrowing the session.
#[derive(Debug)]
pub(super) enum Next<'i> {
    /// Nothing that the driver needs to know: go on.
    Again,
    NeedMore,
    Ask,
    Content(&'i [u8]),
    Dropped(DropReason),
    EndOfMessage(Envelope, ContentSummary),
    StartTls,
}

impl Session {
    /// A session on a connection that was just made; with [`Transport::Tls`] after the handshake
    /// of implicit TLS (RFC 8314).
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, transport: Transport) -> Self {
        Self {
            config,
            state: State::Fresh,
            transport,
            client: None,
            authenticated: false,
            counts: Counts::default(),
            overlong: None,
            now: DateTime::default(),
        }
    }

    /// Tells the time of day. Only needed where FUTURERELEASE is offered, and as often as input
    /// arrives: the latest date that is taken moves with it.
    pub fn tell_time(&mut self, now: DateTime) {
        self.now = now;
    }

    /// Advances the session by as much of `input` as leads to the next event. Returns the number
    /// of octets that it consumed, to be dropped from the front of the buffer, and the event.
    pub fn receive<'a>(&'a mut self, input: &'a [u8], output: &mut Output) -> (usize, Event<'a>) {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let (length, next) = match &self.state {
                State::Fresh => {
                    self.state = State::VettingConnection;
                    (0, Next::Ask)
                }
                State::Ready
                | State::Transaction(_)
                | State::BetweenChunks(..)
                | State::ChunksRefused
                | State::Responding(_) => self.receive_line(rest, output),
                State::Content(..) => self.receive_content(rest, output),
                State::Chunk(_) => self.receive_chunk(rest, output),
                State::VettingConnection
                | State::VettingHelo(_)
                | State::VettingMail(_)
                | State::VettingRcpt(..)
                | State::VettingContent(..)
                | State::Storing
                | State::Authenticating(..)
                | State::Handshake => return (consumed, Event::AnswerDue),
                State::Closed => return (input.len(), Event::Close),
            };
            consumed += length;
            return match next {
                Next::Again => continue,
                Next::NeedMore => (consumed, Event::NeedMore),
                Next::Ask => (consumed, self.question()),
                Next::Content(piece) => (consumed, Event::Content(piece)),
                Next::Dropped(reason) => (consumed, Event::ContentDropped(reason)),
                Next::EndOfMessage(envelope, content) => (
                    consumed,
                    Event::Ask(Question::EndOfMessage { envelope, content }),
                ),
                // What a client sent in clear after STARTTLS must not be taken for something that
                // came under TLS (RFC 3207 section 5).
                Next::StartTls => (input.len(), Event::StartTls),
            };
        }
    }

    /// The question that the state is about.
    fn question(&self) -> Event<'_> {
        Event::Ask(match &self.state {
            State::VettingConnection => Question::Connection,
            State::VettingHelo(hello) => Question::Helo {
                name: &hello.name,
                esmtp: hello.esmtp,
            },
            State::VettingMail(envelope) => Question::Mail {
                reverse_path: &envelope.reverse_path,
                parameters: &envelope.parameters,
            },
            State::VettingRcpt(envelope, recipient) => Question::Rcpt {
                envelope,
                recipient,
            },
            State::VettingContent(envelope, _) => Question::Content { envelope },
            State::Authenticating(mechanism, credentials) => Question::Authenticate {
                mechanism: *mechanism,
                credentials,
            },
            _ => return Event::AnswerDue,
        })
    }

    /// The handshake that [`Event::StartTls`] asked for is done. The client begins anew with
    /// EHLO (RFC 3207 section 4.2).
    pub fn tls_established(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.state = State::Ready;
            self.transport = Transport::Tls;
            self.client = None;
        }
    }

    /// The deadline of the present [`wait`](Self::wait) has passed: 421 4.4.2, then
    /// [`Event::Close`]. While an answer is due it does nothing.
    pub fn time_out(&mut self, output: &mut Output) {
        if matches!(self.wait(), Wait::Command | Wait::Content) {
            let status = EnhancedStatus::transient(4, 2);
            self.close(&Reply::new(421, status, "Timed out, closing"), output);
        }
    }

    /// The server stops, and the driver gives the session no more time (RFC 5321 section 3.8): 421 4.3.2,
    /// then [`Event::Close`]. A message that is not received to its end was promised nothing. While
    /// an answer is due it does nothing, so that no message loses its reply.
    pub fn shut_down(&mut self, output: &mut Output) {
        if matches!(self.wait(), Wait::Command | Wait::Content) {
            let status = EnhancedStatus::transient(3, 2);
            let text = "This server is going down, try again later";
            self.close(&Reply::new(421, status, text), output);
        }
    }

    /// What the session waits for.
    #[must_use]
    pub fn wait(&self) -> Wait {
        match self.state {
            State::Ready
            | State::Transaction(_)
            | State::BetweenChunks(..)
            | State::ChunksRefused
            | State::Responding(_) => Wait::Command,
            State::Content(..) | State::Chunk(_) => Wait::Content,
            State::Fresh
            | State::VettingConnection
            | State::VettingHelo(_)
            | State::VettingMail(_)
            | State::VettingRcpt(..)
            | State::VettingContent(..)
            | State::Storing
            | State::Authenticating(..)
            | State::Handshake => Wait::Driver,
            State::Closed => Wait::Nothing,
        }
    }

    /// Whether more than the next command is awaited: a transaction, an authentication or a
    /// handshake is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Fresh | State::Ready | State::Closed)
    }

    /// What the client called itself in EHLO or HELO.
    #[must_use]
    pub fn client_name(&self) -> Option<&str> {
        self.client.as_ref().map(|client| &*client.name)
    }

    /// Whether the connection is under TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.transport == Transport::Tls
    }

    /// What EHLO offers as things stand.
    pub(super) fn offered(&self) -> Extensions {
        let mut offered = self
            .config
            .extensions
            .without(Extensions::STARTTLS | Extensions::AUTH)
            .without(Extensions::FUTURE_RELEASE | Extensions::MT_PRIORITY);
        if !self.is_tls() && self.config.tls != TlsPolicy::Unavailable {
            offered.insert(Extensions::STARTTLS);
        }
        if self.is_tls() && self.config.auth {
            offered.insert(Extensions::AUTH);
            if self.config.submission.hold != 0 {
                offered.insert(Extensions::FUTURE_RELEASE);
            }
            if self.config.submission.priority {
                offered.insert(Extensions::MT_PRIORITY);
            }
        }
        offered
    }

    /// Says a reply. One that refuses counts as an error, and too many of them end the session.
    pub(super) fn say(&mut self, reply: &Reply, output: &mut Output) {
        output.reply(reply);
        if reply.is_transient() || reply.is_permanent() {
            self.counts.errors += 1;
            if self.counts.errors >= self.config.limits.errors {
                self.close_for("Too many errors, closing", output);
            }
        }
    }

    /// Says a refusal that a well-behaved client may run into when it pipelines: that is no error,
    /// but not for ever.
    pub(super) fn say_sparing(&mut self, reply: &Reply, output: &mut Output) {
        self.counts.spared += 1;
        if self.counts.spared > self.config.limits.recipients {
            self.say(reply, output);
        } else {
            output.reply(reply);
        }
    }

    /// Ends the session for what the client did too often.
    pub(super) fn close_for(&mut self, text: &'static str, output: &mut Output) {
        let status = EnhancedStatus::transient(7, 0);
        self.close(&Reply::new(421, status, text), output);
    }

    /// Says a last reply.
    pub(super) fn close(&mut self, reply: &Reply, output: &mut Output) {
        if !matches!(self.state, State::Closed) {
            output.reply(reply);
            self.state = State::Closed;
        }
    }
}
