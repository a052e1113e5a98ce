//! The session and its states.

use alloc::sync::Arc;

use super::config::SessionConfig;
use super::event::{Answer, Event, Question};
use crate::output::Output;

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
    pub(super) transport: Transport,
}

impl Session {
    /// A session on a connection that was just made; with [`Transport::Tls`] after the handshake
    /// of implicit TLS (RFC 8314).
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, transport: Transport) -> Self {
        Self { config, transport }
    }

    /// Advances the session by as much of `input` as leads to the next event. Returns the number
    /// of octets that it consumed, to be dropped from the front of the buffer, and the event.
    pub fn receive<'a>(&'a mut self, _input: &'a [u8], _output: &mut Output) -> (usize, Event<'a>) {
        (0, Event::Ask(Question::Connection))
    }

    /// Answers the open question. Without an open question it does nothing.
    pub fn answer(&mut self, _answer: Answer, _output: &mut Output) {}

    /// The handshake that [`Event::StartTls`] asked for is done. The client begins anew with
    /// EHLO (RFC 3207 section 4.2).
    pub fn tls_established(&mut self, _output: &mut Output) {
        self.transport = Transport::Tls;
    }

    /// The deadline of the present [`wait`](Self::wait) has passed: 421 4.4.2, then
    /// [`Event::Close`]. While an answer is due it does nothing.
    pub fn time_out(&mut self, _output: &mut Output) {}

    /// The server stops: 421 4.3.2 and [`Event::Close`], at once if a command is awaited;
    /// otherwise after the reply that is due. A message that is being received is received to
    /// its end first, and never loses its reply.
    pub fn shut_down(&mut self, _output: &mut Output) {}

    /// What the session waits for.
    #[must_use]
    pub fn wait(&self) -> Wait {
        Wait::Command
    }

    /// Whether a transaction or an authentication is under way, so that closing now would cost
    /// the client something.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        false
    }

    /// What the client called itself in EHLO or HELO.
    #[must_use]
    pub fn client_name(&self) -> Option<&str> {
        None
    }

    /// Whether the client introduced itself with EHLO rather than HELO; together with
    /// [`is_tls`](Self::is_tls) and [`is_authenticated`](Self::is_authenticated) this gives the
    /// `with` word of Received (RFC 3848).
    #[must_use]
    pub fn is_esmtp(&self) -> bool {
        false
    }

    /// Whether the connection is under TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.transport == Transport::Tls
    }

    /// Whether the client has authenticated.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        false
    }
}
