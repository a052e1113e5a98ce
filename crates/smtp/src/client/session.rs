//! The session and its states.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use super::config::ClientConfig;
use super::event::{Event, Message};
use super::offer::Offer;
use super::phase::Phase;
use crate::output::Output;
use crate::server::Transport;

/// A client's end of one SMTP connection.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Arc<ClientConfig>,
    pub(super) transport: Transport,
    pub(super) offer: Offer,
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
        }
    }

    /// Advances the session by as much of `input` as leads to the next event. Returns the number
    /// of octets that it consumed, to be dropped from the front of the buffer, and the event.
    pub fn receive(&mut self, _input: &[u8], _output: &mut Output) -> (usize, Event) {
        (0, Event::NeedMore)
    }

    /// Begins a transaction. Only when the session is [`Event::Ready`]; otherwise the message is
    /// finished as deferred.
    pub fn begin(&mut self, _message: Message, _output: &mut Output) {}

    /// Sends a chunk of the content, of any size, cut anywhere. Only after
    /// [`Event::SendContent`]; otherwise it does nothing.
    pub fn content(&mut self, _chunk: &[u8], _output: &mut Output) {}

    /// Sends the end of the content. From now on the outcome of a lost connection is *unknown*.
    pub fn end_of_content(&mut self, _output: &mut Output) {}

    /// Says QUIT. [`Event::Closed`] follows, at the latest with
    /// [`connection_lost`](Self::connection_lost).
    pub fn quit(&mut self, _output: &mut Output) {}

    /// The handshake that [`Event::StartTls`] asked for is done: EHLO again (RFC 3207 section 4.2).
    pub fn tls_established(&mut self, _output: &mut Output) {
        self.transport = Transport::Tls;
    }

    /// The connection was closed or broke, a deadline passed, or the driver gives up, e.g. because
    /// the body can't be read. Call [`receive`](Self::receive) for what follows from it:
    /// `Finished` or `Failed`, then `Closed`. The words go into replies and logs: `timed out`.
    pub fn connection_lost(&mut self, _why: impl Into<Cow<'static, str>>) {}

    /// What the session waits for; it names the deadline.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::Greeting
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
