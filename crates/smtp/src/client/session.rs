//! The session, its states, and the way to the first transaction.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use super::config::{ClientConfig, TlsUse};
use super::event::{Event, Failure, FailureKind, Message, Outcome};
use super::login::Login;
use super::offer::Offer;
use super::phase::Phase;
use super::transaction::{Stage, Transaction};
use crate::extension::Extensions;
use crate::outline::Speaker;
use crate::output::Output;
use crate::reply::{Reply, ReplyParser};
use crate::server::Transport;
use crate::status::EnhancedStatus;

/// A client's end of one SMTP connection.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Arc<ClientConfig>,
    pub(super) transport: Transport,
    pub(super) offer: Offer,
    pub(super) state: State,
    pub(super) parser: ReplyParser,
    /// The server may still be in a transaction: RSET comes before the next.
    pub(super) needs_rset: bool,
    replies: u64,
}

/// What the session is about.
#[derive(Debug)]
pub(super) enum State {
    /// These wait for the reply to what their name says.
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// The driver does the handshake.
    Handshake,
    Login(Login),
    /// A transaction may begin.
    Ready,
    Transaction(Box<Transaction>),
    /// The outcomes are to be told.
    Finished {
        outcomes: Vec<Outcome>,
        reusable: bool,
    },
    /// The failure is to be told.
    Failed(Box<Failure>),
    Quit,
    Closed,
}

impl Session {
    /// A session on a connection that was just made; with [`Transport::Tls`] after the handshake
    /// of implicit TLS (RFC 8314). The server speaks first.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, transport: Transport) -> Self {
        Self {
            config,
            transport,
            offer: Offer::default(),
            state: State::Greeting,
            parser: ReplyParser::new(),
            needs_rset: false,
            replies: 0,
        }
    }

    /// Advances the session by as much of `input` as leads to the next event. Returns the number
    /// of octets that it consumed, to be dropped from the front of the buffer, and the event.
    pub fn receive(&mut self, input: &[u8], output: &mut Output) -> (usize, Event) {
        let mut consumed = 0;
        loop {
            if let Some(event) = self.event_of_itself(&input[consumed..]) {
                return (consumed, event);
            }
            let rest = &input[consumed..];
            match self.parser.receive(rest) {
                Ok((length, reply)) => {
                    consumed += length;
                    if length > 0 {
                        output.outline.push_wire(Speaker::Server, &rest[..length]);
                    }
                    match reply {
                        Some(reply) => {
                            self.replies += 1;
                            self.take_reply(reply, consumed < input.len(), output);
                            if matches!(self.state, State::Handshake) {
                                return (consumed, Event::StartTls);
                            }
                        }
                        None => return (consumed, self.event_while_waiting()),
                    }
                }
                Err(malformed) => self.lose(FailureKind::Protocol, &format!("{malformed}")),
            }
        }
    }

    /// The event that needs no reply.
    fn event_of_itself(&mut self, input: &[u8]) -> Option<Event> {
        match &mut self.state {
            State::Finished { outcomes, reusable } => {
                let (outcomes, reusable) = (mem::take(outcomes), *reusable);
                self.state = if reusable {
                    State::Ready
                } else {
                    State::Closed
                };
                Some(Event::Finished(outcomes))
            }
            State::Failed(_) => match mem::replace(&mut self.state, State::Closed) {
                State::Failed(failure) => Some(Event::Failed(*failure)),
                _ => None,
            },
            State::Closed => Some(Event::Closed),
            State::Handshake => Some(Event::NeedMore),
            State::Ready if input.is_empty() => Some(Event::Ready),
            State::Transaction(transaction) if transaction.is_sending() && input.is_empty() => {
                Some(Event::SendContent)
            }
            _ => None,
        }
    }

    /// The event if the reply is not complete.
    fn event_while_waiting(&self) -> Event {
        match &self.state {
            State::Ready => Event::Ready,
            State::Transaction(transaction) if transaction.is_sending() => Event::SendContent,
            _ => Event::NeedMore,
        }
    }

    fn take_reply(&mut self, reply: Reply, more_input: bool, output: &mut Output) {
        match mem::replace(&mut self.state, State::Closed) {
            State::Greeting if reply.code() == 220 => self.say_ehlo(output),
            State::Ehlo if reply.is_positive() => {
                self.offer = Offer::parse(&reply);
                self.after_ehlo(output);
            }
            // RFC 5321 section 3.2: a server that does not know EHLO gets HELO.
            State::Ehlo if reply.is_permanent() => {
                output.command(format_args!("HELO {}", self.config.hostname));
                self.state = State::Helo;
            }
            State::Helo if reply.is_positive() => self.after_ehlo(output),
            State::StartTls if reply.code() == 220 && more_input => {
                // Somebody put words into the server's mouth that would seem to come under TLS.
                self.fail(
                    Phase::StartTls,
                    FailureKind::Protocol,
                    made_up("Data after STARTTLS"),
                );
            }
            State::StartTls if reply.code() == 220 => self.state = State::Handshake,
            State::StartTls if self.config.tls != TlsUse::Required && reply.code() != 421 => {
                self.after_tls(output);
            }
            State::Login(login) => self.advance_login(login, reply, output),
            State::Transaction(transaction) => {
                self.advance_transaction(transaction, reply, output);
            }
            // The server ends the connection, most often because it was idle for too long.
            State::Ready => self.fail(Phase::Idle, FailureKind::Replied, reply),
            State::Quit => {}
            state => {
                self.state = state;
                let phase = self.phase();
                if reply.code() != 421 {
                    output.command(format_args!("QUIT"));
                }
                self.fail(phase, FailureKind::Replied, reply);
            }
        }
    }

    fn say_ehlo(&mut self, output: &mut Output) {
        self.offer = Offer::default();
        output.command(format_args!("EHLO {}", self.config.hostname));
        self.state = State::Ehlo;
    }

    fn after_ehlo(&mut self, output: &mut Output) {
        let wants_tls = !self.is_tls() && self.config.tls != TlsUse::Never;
        if wants_tls && self.offer.has(Extensions::STARTTLS) {
            output.command(format_args!("STARTTLS"));
            self.state = State::StartTls;
        } else if wants_tls && self.config.tls == TlsUse::Required {
            output.command(format_args!("QUIT"));
            let status = EnhancedStatus::transient(7, 4);
            let reply = Reply::new(454, status, "TLS is required and not offered");
            self.fail(Phase::Ehlo, FailureKind::NoTls, reply);
        } else {
            self.after_tls(output);
        }
    }

    /// TLS is as it will be.
    fn after_tls(&mut self, output: &mut Output) {
        if self.config.credentials.is_some() {
            self.log_in(output);
        } else {
            self.state = State::Ready;
        }
    }

    /// Ends the session, which is not in a transaction.
    pub(super) fn fail(&mut self, phase: Phase, kind: FailureKind, reply: Reply) {
        self.state = State::Failed(Box::new(Failure { phase, kind, reply }));
    }

    /// Ends the session because the connection is of no use any more.
    fn lose(&mut self, kind: FailureKind, why: &str) {
        let phase = self.phase();
        let reply = made_up(format!("{why} (waiting for: {})", phase.name()));
        match mem::replace(&mut self.state, State::Closed) {
            State::Transaction(transaction) => {
                let failure = Failure { phase, kind, reply };
                self.state = State::Finished {
                    outcomes: transaction.lost(&failure),
                    reusable: false,
                };
            }
            State::Finished { outcomes, .. } => {
                self.state = State::Finished {
                    outcomes,
                    reusable: false,
                };
            }
            State::Failed(failure) => self.state = State::Failed(failure),
            State::Quit | State::Closed => {}
            _ => self.fail(phase, kind, reply),
        }
    }

    /// Begins a transaction. Only when the session is [`Event::Ready`]; otherwise it does nothing.
    pub fn begin(&mut self, message: Message, output: &mut Output) {
        if matches!(self.state, State::Ready) {
            output.outline.begin_transaction();
            self.begin_transaction(message, output);
        }
    }

    /// Sends a chunk of the content, of any size, cut anywhere. Only after
    /// [`Event::SendContent`]; otherwise it does nothing.
    pub fn content(&mut self, chunk: &[u8], output: &mut Output) {
        if let State::Transaction(transaction) = &mut self.state
            && let Stage::Content(stuffer, octets) = &mut transaction.stage
        {
            *octets += chunk.len() as u64;
            stuffer.encode(chunk, &mut output.bytes);
        }
    }

    /// Sends the end of the content. From now on the outcome of a lost connection is *unknown*, unless
    /// the [output was lost](Self::output_lost).
    pub fn end_of_content(&mut self, output: &mut Output) {
        if let State::Transaction(transaction) = &mut self.state {
            transaction.end_of_content(output);
        }
    }

    /// Says QUIT. [`Event::Closed`] follows, at the latest with
    /// [`connection_lost`](Self::connection_lost). Only when the session is [`Event::Ready`];
    /// otherwise it does nothing.
    pub fn quit(&mut self, output: &mut Output) {
        if matches!(self.state, State::Ready) {
            output.command(format_args!("QUIT"));
            self.state = State::Quit;
        }
    }

    /// The handshake that [`Event::StartTls`] asked for is done: EHLO again (RFC 3207 section 4.2).
    pub fn tls_established(&mut self, output: &mut Output) {
        if matches!(self.state, State::Handshake) {
            self.transport = Transport::Tls;
            self.say_ehlo(output);
        }
    }

    /// The connection was closed or broke, a deadline passed, or the driver gives up, e.g. because
    /// the body can't be read. Call [`receive`](Self::receive) for what follows from it:
    /// `Finished` or `Failed`, then `Closed`. The words go into replies and logs: `timed out`.
    pub fn connection_lost(&mut self, why: impl Into<Cow<'static, str>>) {
        let why = why.into();
        self.lose(FailureKind::ConnectionLost(why.clone()), &why);
    }

    /// The driver could not write the output to its end. Where that held the final dot, the server
    /// cannot have the message: nothing that it may still say makes it delivered, and what is lost now is
    /// a deferral, not unknown. What the server said before it closed is worth reading, so go on with
    /// [`receive`](Self::receive), then [`connection_lost`](Self::connection_lost).
    pub fn output_lost(&mut self) {
        if let State::Transaction(transaction) = &mut self.state {
            transaction.cut();
        }
    }

    /// What the session waits for; it names the deadline.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting => Phase::Greeting,
            State::Ehlo | State::Helo => Phase::Ehlo,
            State::StartTls => Phase::StartTls,
            State::Handshake => Phase::TlsHandshake,
            State::Login(_) => Phase::Auth,
            State::Transaction(transaction) => transaction.phase(),
            State::Ready | State::Finished { .. } => Phase::Idle,
            State::Failed(failure) => failure.phase,
            State::Quit | State::Closed => Phase::Quit,
        }
    }

    /// Complete replies so far. A driver's deadline is for a whole one: a server that says it line by
    /// line gains no time.
    #[must_use]
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// What the server offers, as far as it is known now.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Whether the connection is under TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.transport == Transport::Tls
    }
}

/// The reply that stands for a connection that is of no use any more (RFC 3463: X.4.2).
fn made_up(text: impl Into<String>) -> Reply {
    Reply::new(451, EnhancedStatus::transient(4, 2), text.into())
}
