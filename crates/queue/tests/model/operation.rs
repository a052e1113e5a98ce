//! What can happen to a store. Operations point at things by numbers that are taken modulo what there
//! is, so that any part of a history is a history.

mod dice;

pub(crate) use dice::Dice;

use crate::subject::Crash;

/// A message to be.
#[derive(Debug, Clone)]
pub(crate) struct NewSpec {
    pub(crate) id: u128,
    /// User and domain of each recipient; the same twice is possible.
    pub(crate) recipients: Vec<(u8, u8)>,
    /// 0 is the null reverse-path.
    pub(crate) sender: u8,
    /// 0 is none.
    pub(crate) message_id: u8,
    /// Stored beside the queue, by this name.
    pub(crate) stored: Option<u8>,
    /// 0 is none.
    pub(crate) tenant: u8,
    pub(crate) priority: i32,
    /// Not before so many milliseconds.
    pub(crate) release_ms: Option<u64>,
}

/// A completion to be.
#[derive(Debug, Clone)]
pub(crate) struct ReportSpec {
    /// Which leased delivery.
    pub(crate) which: usize,
    /// What became of each recipient in turn: 0 delivered, 1 deferred, 2 failed, 3 unknown, 4 left out.
    pub(crate) outcomes: Vec<u8>,
    pub(crate) retry_s: u64,
    pub(crate) dsn: Option<NewSpec>,
    pub(crate) delay_warned: bool,
    pub(crate) worker: u8,
    pub(crate) twist: Twist,
}

/// What is wrong with a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twist {
    Nothing,
    /// A token that was never given.
    WrongToken,
    /// The token of some other lease, dead or alive.
    OtherToken(usize),
    /// The worker does not say which attempt it was.
    NoNumber,
    /// The number of another attempt.
    WrongNumber,
    /// An outcome for somebody else comes first.
    Stranger,
}

/// A filter to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilterSpec {
    pub(crate) messages: Vec<usize>,
    pub(crate) destination: Option<Place>,
    pub(crate) sender: Option<Who>,
    pub(crate) recipient: Option<Who>,
    pub(crate) tenant: Option<u8>,
    pub(crate) held: bool,
    pub(crate) suspended: bool,
    pub(crate) unknown: bool,
    pub(crate) min_attempts: u32,
    pub(crate) accepted_before_ms: Option<u64>,
    pub(crate) accepted_after_ms: Option<u64>,
    pub(crate) last_reply: Option<u8>,
}

/// A destination, or a pattern of some.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    One(u8),
    Below,
    Transport,
    All,
}

/// An address, or a pattern of some.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Null,
    Sender(u8),
    SenderDomain,
    Recipient(u8, u8),
    RecipientDomain(u8),
}

/// An act to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ActSpec {
    Retry,
    Hold { for_ms: Option<u64> },
    Release,
    Remove,
    Bounce,
    Reroute { domain: u8 },
}

/// A suspension to be.
#[derive(Debug, Clone)]
pub(crate) struct SuspensionSpec {
    pub(crate) id: u8,
    pub(crate) domain: Option<u8>,
    pub(crate) sender: Option<Who>,
    pub(crate) tenant: Option<u8>,
    pub(crate) for_ms: Option<u64>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FindSpec {
    MessageId(u8),
    Sender(u8),
    Recipient(u8, u8),
}

/// One step of a history.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Enqueue(Vec<NewSpec>),
    /// Messages that were accepted before, and one that was not.
    EnqueueAgain(Vec<usize>, NewSpec),
    Lease {
        worker: u8,
        slots: u32,
        grants: usize,
        /// 0 both, 1 smtp only, 2 mailbox only.
        transports: u8,
    },
    Pull {
        lease: usize,
        most: usize,
    },
    Renew(Vec<usize>),
    GiveBack(Vec<usize>),
    /// Some of what is leased under a lease, and slots beyond these.
    GiveBackPart {
        lease: usize,
        which: Vec<usize>,
        slots: u32,
    },
    Complete(Vec<ReportSpec>),
    CompleteAgain(usize),
    Expire,
    /// On all that match, and on some that may have ended.
    Act {
        act: ActSpec,
        filter: FilterSpec,
        also: Vec<usize>,
    },
    List {
        filter: FilterSpec,
        page: usize,
    },
    Find {
        what: FindSpec,
        limit: usize,
    },
    Suspend(SuspensionSpec),
    Resume(u8),
    Suspensions,
    PutRecord {
        kind: u8,
        key: u8,
        /// What is added to the version that is there; 1 is right.
        step: u64,
        value: u8,
    },
    DeleteRecord {
        kind: u8,
        key: u8,
    },
    Records(u8),
    Export {
        page: usize,
    },
    /// A copy of a queued message, under another id, and one that is there.
    Import {
        which: usize,
        id: u128,
        again: usize,
    },
    /// All messages go to a new store.
    Move {
        page: usize,
    },
    Bodies {
        forget: usize,
    },
    Advance {
        ms: u64,
    },
    Crash(Crash),
    /// All at once.
    Together(Vec<Operation>),
    /// What changes one thing, while what lies beneath fails after so many writes.
    Faulty {
        operation: Box<Operation>,
        writes: u64,
    },
    /// What changes one thing, by a process that dies so many microseconds after it was asked.
    Abandoned {
        operation: Box<Operation>,
        after_us: u64,
    },
}
