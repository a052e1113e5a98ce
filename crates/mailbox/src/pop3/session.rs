//! The states of a session (RFC 1939 section 3), and what goes in and out of them.

use zeroize::Zeroizing;

use crate::accounts::AccountName;
use crate::store::{Entry, Part};

/// What a session may do before it is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) auth_failures: u32,
    pub(crate) bad_commands: u32,
}

/// One session. What is known in a state lives in it, so that nothing outlasts its meaning.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) limits: Limits,
    pub(super) bad_commands: u32,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// AUTHORIZATION: waits for a command.
    Authorization(Client),
    /// Waits for the response to AUTH PLAIN's empty challenge.
    Sasl(Client),
    /// Waits for the TLS handshake.
    Securing,
    /// Waits for the verdict about a password.
    Checking(Client),
    /// Waits for the maildrop.
    Opening(Client),
    /// TRANSACTION: waits for a command.
    Transaction(Box<Transaction>),
    /// TRANSACTION, while this message is being sent.
    Sending(Box<Transaction>, usize, Part),
    /// UPDATE: waits until deletions are carried out.
    Updating,
    /// Nothing more is to come.
    Closed,
}

/// A client that has not logged in.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) failures: u32,
}

/// A client at its maildrop.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) messages: Vec<Entry>,
    pub(super) marks: Vec<Mark>,
}

/// What the session has done with a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) deleted: bool,
    pub(super) retrieved: bool,
}

impl Transaction {
    /// The message of a number that the client gives; `None` if there is none or it is deleted.
    pub(super) fn index(&self, number: u32) -> Option<usize> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        (!self.marks.get(index)?.deleted).then_some(index)
    }

    /// How many messages are not deleted, and their octets.
    pub(super) fn totals(&self) -> (usize, u64) {
        let all = self.messages.iter().zip(&self.marks);
        all.filter(|(_, mark)| !mark.deleted)
            .fold((0, 0), |(n, octets), (entry, _)| {
                (n + 1, octets + entry.size())
            })
    }

    /// The messages with such a mark.
    pub(super) fn marked(&self, wanted: impl Fn(&Mark) -> bool) -> Vec<Entry> {
        let all = self.messages.iter().zip(&self.marks);
        all.filter(|(_, mark)| wanted(mark))
            .map(|(entry, _)| entry.clone())
            .collect()
    }
}

/// What happens to a session.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// A line, without its line end.
    Line(&'a [u8]),
    LineTooLong,
    /// The handshake is done.
    Secured,
    Granted(AccountName),
    Denied,
    /// Passwords cannot be checked now.
    Busy,
    /// The maildrop's messages.
    Opened(Vec<Entry>),
    /// Another session has the maildrop.
    InUse,
    /// The maildrop cannot be read.
    OpenFailed,
    /// The message's file is open.
    Found,
    /// It has gone, or cannot be read.
    NotFound,
    /// All of it is on its way.
    Sent,
    /// How many messages could not be deleted.
    Updated(usize),
    TimedOut,
    /// The service stops.
    Stopping,
}

/// What a session asks of its driver. All but `List` and `Close` are answered by an input.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send what is to be sent, forget what has come in, shake hands.
    StartTls,
    Check {
        login: String,
        password: Zeroizing<String>,
        /// Wrong passwords so far, by which a refusal is delayed.
        failures: u32,
    },
    Open(AccountName),
    /// Find the message's file, say so, then send it.
    Send(Entry, Part),
    /// Send a listing: [`Session::listing`] until it has ended.
    List(ListKind),
    Update {
        deleted: Vec<Entry>,
        retrieved: Vec<Entry>,
    },
    Close(Ending),
}

/// Which listing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListKind {
    Sizes,
    UniqueIds,
}

/// How a session ended, as its metric's label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Quit,
    Lost,
    TimedOut,
    Refused,
    Errors,
    TlsFailed,
    Stopped,
}

impl Ending {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::Lost => "lost",
            Self::TimedOut => "timed-out",
            Self::Refused => "refused",
            Self::Errors => "errors",
            Self::TlsFailed => "tls-failed",
            Self::Stopped => "stopped",
        }
    }
}

impl Session {
    /// A session on a new connection; appends the greeting.
    pub(crate) fn greet(tls: bool, limits: Limits, hostname: &str, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(format!("+OK {hostname} Postrider POP3 ready\r\n").as_bytes());
        Self {
            limits,
            bad_commands: 0,
            state: State::Authorization(Client {
                tls,
                ..Client::default()
            }),
        }
    }

    /// What stands in for a session that has been taken out of its place.
    pub(crate) const fn closed() -> Self {
        Self {
            limits: Limits {
                auth_failures: 0,
                bad_commands: 0,
            },
            bad_commands: 0,
            state: State::Closed,
        }
    }

    /// Whether the next line may be fed. If not, an answer to an action is due first.
    pub(crate) fn wants_line(&self) -> bool {
        matches!(
            self.state,
            State::Authorization(_) | State::Sasl(_) | State::Transaction(_)
        )
    }

    /// Whether the client has logged in, and so may take its time.
    pub(crate) fn is_logged_in(&self) -> bool {
        matches!(self.state, State::Transaction(_) | State::Sending(..))
    }

    /// Appends the lines of a listing from message `from` (counted from 0) on, until `out` holds
    /// `enough` bytes. Returns where to go on; `None` when the listing has ended.
    pub(crate) fn listing(
        &self,
        kind: ListKind,
        from: usize,
        enough: usize,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        if let State::Transaction(at) = &self.state {
            for index in from..at.messages.len() {
                if out.len() >= enough {
                    return Some(index);
                }
                if !at.marks[index].deleted {
                    kind.write_line(index, &at.messages[index], out);
                }
            }
        }
        out.extend_from_slice(b".\r\n");
        None
    }
}

impl ListKind {
    /// Appends "number value CRLF".
    pub(super) fn write_line(self, index: usize, entry: &Entry, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} ", index + 1).as_bytes());
        match self {
            Self::Sizes => out.extend_from_slice(entry.size().to_string().as_bytes()),
            Self::UniqueIds => entry.write_unique(out),
        }
        out.extend_from_slice(b"\r\n");
    }
}
