//! What a session says to its driver.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::phase::Phase;
use crate::envelope::Envelope;
use crate::reply::Reply;

/// What [`Session::receive`](super::Session::receive) came upon.
#[derive(Debug)]
pub enum Event {
    /// Write the output, then read; [`Session::phase`](super::Session::phase) has the deadline.
    NeedMore,
    /// Do the handshake, then call
    /// [`Session::tls_established`](super::Session::tls_established). If it fails, the
    /// connection is of no use any more.
    StartTls,
    /// A transaction may begin: [`Session::begin`](super::Session::begin) or
    /// [`Session::quit`](super::Session::quit). Comes again until one of them is called.
    Ready,
    /// The server waits for the content: [`Session::content`](super::Session::content) any number
    /// of times, then [`Session::end_of_content`](super::Session::end_of_content). Comes again
    /// until the end.
    SendContent,
    /// The transaction has ended: one outcome a recipient, in the envelope's order. The next
    /// event tells whether the connection can be used again.
    Finished(Vec<Outcome>),
    /// The session ended outside of a transaction and not because of `quit`: refused, or no TLS,
    /// or no AUTH, or the connection was lost. The output may hold a QUIT to write before closing.
    Failed(Failure),
    /// Close the connection.
    Closed,
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Message {
    /// The envelope. Its SIZE is not looked at.
    pub envelope: Arc<Envelope>,
    /// Octets of the content, without dot-stuffing.
    pub size: u64,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server has taken responsibility: its 2yz to the end of data.
    Delivered(Reply),
    /// A deferral.
    Deferred(Failure),
    /// A permanent failure.
    Failed(Failure),
    /// The connection was lost after the final dot may have left and before its reply came: the
    /// server may have the message or not (RFC 5321 section 4.5.4.1 and RFC 1047).
    Unknown(Failure),
    /// The server takes no more recipients in this transaction; send to this one in another, at
    /// once.
    NextTransaction(Reply),
}

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the session was about.
    pub phase: Phase,
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// The server's reply, or one that stands for what has none (the kind tells).
    pub reply: Reply,
}

/// What kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// The server said so; the reply is the server's. All others are ours.
    Replied,
    /// The connection broke or a deadline passed; with the driver's words for it.
    ConnectionLost(Cow<'static, str>),
    /// The server sent what is no SMTP.
    Protocol,
    /// TLS is required and the server does not offer it.
    NoTls,
    /// AUTH is required and the server offers none that we have, or not under TLS.
    NoAuth,
    /// The server declares a SIZE below the message's (RFC 1870 section 6.1).
    TooLarge,
    /// The message needs SMTPUTF8 and the server does not offer it.
    NeedsSmtpUtf8,
}

impl Failure {
    /// Whether the reply is the server's own.
    #[must_use]
    pub fn is_from_remote(&self) -> bool {
        self.kind == FailureKind::Replied
    }
}
