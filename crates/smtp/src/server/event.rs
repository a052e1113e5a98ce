//! What a session says to its driver, and what the driver answers.

use alloc::boxed::Box;

use crate::address::ReversePath;
use crate::credentials::{Credentials, Mechanism};
use crate::data::{ContentProblem, ContentSummary};
use crate::envelope::{Envelope, MailParameters, Recipient};
use crate::reply::Reply;

/// What [`Session::receive`](super::Session::receive) came upon.
#[derive(Debug)]
pub enum Event<'a> {
    /// Nothing more can be done with the input: write the output, read on.
    NeedMore,
    /// A question is open: [`Session::answer`](super::Session::answer) it first. Comes again
    /// and again until that is done, with nothing consumed.
    AnswerDue,
    /// Something that is not the session's to decide.
    Ask(Question<'a>),
    /// Content of the message, without dot-stuffing: a piece of the input.
    Content(&'a [u8]),
    /// Let go of the content gathered so far: the message will not be accepted, and the session
    /// sees to the replies.
    ContentDropped(DropReason),
    /// Write the output, let go of all input (it counts as consumed), do the handshake, then
    /// call [`Session::tls_established`](super::Session::tls_established).
    StartTls,
    /// Write the output and close the connection.
    Close,
}

/// Something that is not the session's to decide.
#[derive(Debug)]
pub enum Question<'a> {
    /// May this client connect? Accept gives the greeting; a refusal closes the connection.
    Connection,
    /// EHLO or HELO. Accept or refuse.
    Helo {
        /// What the client calls itself: any one word.
        name: &'a str,
        /// EHLO rather than HELO.
        esmtp: bool,
    },
    /// AUTH: are the credentials right? [`Answer::Authenticated`], [`Answer::Denied`], or a
    /// refusal 4yz.
    Authenticate {
        /// The mechanism that carried them.
        mechanism: Mechanism,
        /// Who and how.
        credentials: &'a Credentials,
    },
    /// MAIL: a transaction begins; whatever the driver kept of the one before is void. Accept or
    /// refuse.
    Mail {
        /// Where notifications go.
        reverse_path: &'a ReversePath,
        /// Parameters; a SIZE beyond the limit was refused already.
        parameters: &'a MailParameters,
    },
    /// RCPT. Accept adds the recipient to the envelope; a refusal does not.
    Rcpt {
        /// The transaction so far, without this recipient.
        envelope: &'a Envelope,
        /// The one in question.
        recipient: &'a Recipient,
    },
    /// Content is about to come, by DATA or by the first BDAT. Accept or refuse.
    Content {
        /// The transaction, with at least one recipient.
        envelope: &'a Envelope,
    },
    /// The message has ended and nothing is wrong with it. [`Answer::Stored`] once it is safe,
    /// or refuse.
    EndOfMessage {
        /// The envelope, which is now the driver's.
        envelope: Envelope,
        /// Size and 8-bit octets.
        content: ContentSummary,
    },
}

/// The driver's answer to a [`Question`]. One that does not fit the question, such as `Accept` to
/// the end of a message, is taken as a failure of the driver: 451 4.3.0, and nothing is accepted.
#[derive(Debug)]
pub enum Answer {
    /// Yes.
    Accept,
    /// No, with a reply 4yz or 5yz (others are turned into 451).
    Refuse(Reply),
    /// No, and the connection ends after the reply.
    RefuseAndClose(Reply),
    /// The message is safe under this queue id: it survives a crash of everything here. This is
    /// the only answer that leads to a 250 after end-of-data (RFC 5321 section 6.1).
    Stored(Box<str>),
    /// The credentials are right.
    Authenticated,
    /// The credentials are wrong: 535 5.7.8.
    Denied,
}

/// Why content that was given out is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It can't be accepted; the rest is read, then refused.
    Refused(ContentProblem),
    /// The client gave the transaction up between two chunks (RSET, EHLO), or broke the order of
    /// BDAT.
    Abandoned,
}
