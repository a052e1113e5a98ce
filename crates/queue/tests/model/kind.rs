//! What sets the stores apart where the contract leaves them a choice.

/// A kind of store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// The queue is undivided: one order of tokens and of destinations that wait, each message counted
    /// once, whatever concerns several destinations done in one step.
    pub(crate) whole: bool,
    /// It asks what lies beneath again where an answer was lost, so that a message may be known
    /// already to the call that brought it.
    pub(crate) asks_twice: bool,
}

/// The embedded store, and the model.
pub(crate) const LOCAL: Kind = Kind {
    whole: true,
    asks_twice: false,
};

/// The Redis store.
pub(crate) const REDIS: Kind = Kind {
    whole: true,
    asks_twice: true,
};

/// The Redis store, where it is divided into partitions.
pub(crate) const PARTITIONS: Kind = Kind {
    whole: false,
    asks_twice: true,
};
