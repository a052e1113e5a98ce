//! What can happen to a store. Operations point at things by numbers that are taken modulo what there
//! is, so that any part of a history is a history.

use postrider_queue::store::Act;
use rand::rngs::StdRng;
use rand::{Rng, RngExt as _};

use crate::history::Plan;
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
    pub(crate) domain: Option<u8>,
    pub(crate) sender: Option<u8>,
    pub(crate) recipient: Option<(u8, u8)>,
    pub(crate) held: bool,
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
    Complete(Vec<ReportSpec>),
    CompleteAgain(usize),
    Expire,
    Act {
        act: Act,
        filter: FilterSpec,
        preview: bool,
    },
    List {
        filter: FilterSpec,
        page: usize,
    },
    Find(u8),
    Bodies {
        forget: usize,
    },
    Advance {
        ms: u64,
    },
    Crash(Crash),
    /// An enqueue of one message, or one completion, while what lies beneath fails.
    Faulty(Box<Operation>),
}

/// Draws operations by chance.
pub(crate) struct Dice {
    chance: StdRng,
    /// Chances of crashes, in thousandths.
    crashes: u32,
    server_crashes: u32,
    /// Chances of faults, in thousandths.
    faults: u32,
}

impl Dice {
    pub(crate) fn new(chance: StdRng, plan: Plan) -> Self {
        Self {
            chance,
            crashes: plan.crashes,
            server_crashes: plan.server_crashes,
            faults: plan.faults,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.chance.random_range(0..end)
    }

    fn byte(&mut self, end: u8) -> u8 {
        self.chance.random_range(0..end)
    }

    fn some(&mut self, most: usize) -> Vec<usize> {
        let count = 1 + self.below(most);
        (0..count).map(|_| self.below(1000)).collect()
    }

    fn message(&mut self) -> NewSpec {
        let recipients = 1 + self.below(4);
        NewSpec {
            id: u128::from(self.chance.next_u64()) << 32,
            recipients: (0..recipients)
                .map(|_| (self.byte(3), self.byte(4)))
                .collect(),
            sender: self.byte(3),
            message_id: self.byte(4),
            stored: (self.below(8) == 0).then(|| self.byte(3)),
        }
    }

    fn report(&mut self) -> ReportSpec {
        let outcomes = match self.below(4) {
            0 => vec![0],
            1 => vec![1],
            _ => (0..4).map(|_| self.byte(5)).collect(),
        };
        ReportSpec {
            which: self.below(1000),
            outcomes,
            retry_s: [0, 1, 60, 600, 7200][self.below(5)],
            dsn: (self.below(4) == 0).then(|| self.message()),
            twist: match self.below(16) {
                0 => Twist::WrongToken,
                1 => Twist::OtherToken(self.below(1000)),
                2 => Twist::NoNumber,
                3 => Twist::WrongNumber,
                4 => Twist::Stranger,
                _ => Twist::Nothing,
            },
        }
    }

    fn filter(&mut self) -> FilterSpec {
        let mut filter = FilterSpec::default();
        match self.below(6) {
            0 => {}
            1 => filter.messages = self.some(3),
            2 => filter.domain = Some(self.byte(4)),
            3 => filter.sender = Some(self.byte(3)),
            4 => filter.recipient = Some((self.byte(3), self.byte(4))),
            _ => filter.held = true,
        }
        if self.below(4) == 0 {
            filter.domain = Some(self.byte(4));
        }
        filter
    }

    fn act(&mut self) -> Operation {
        let acts = [
            Act::Hold,
            Act::Release,
            Act::Release,
            Act::Retry,
            Act::Remove,
            Act::Bounce,
        ];
        Operation::Act {
            act: acts[self.below(acts.len())],
            filter: self.filter(),
            preview: self.below(5) == 0,
        }
    }

    /// The next operation.
    pub(crate) fn roll(&mut self) -> Operation {
        if self.chance.random_range(0..1000) < self.server_crashes {
            return Operation::Crash(Crash::Server);
        }
        if self.chance.random_range(0..1000) < self.crashes {
            return Operation::Crash(Crash::Process);
        }
        if self.chance.random_range(0..1000) < self.faults {
            let operation = match self.below(2) {
                0 => Operation::Enqueue(vec![self.message()]),
                _ => Operation::Complete(vec![self.report()]),
            };
            return Operation::Faulty(Box::new(operation));
        }
        match self.below(100) {
            0..14 => {
                let count = 1 + self.below(4);
                Operation::Enqueue((0..count).map(|_| self.message()).collect())
            }
            14..17 => Operation::EnqueueAgain(self.some(3), self.message()),
            17..32 => Operation::Lease {
                worker: self.byte(3),
                slots: [1, 2, 5, 100][self.below(4)],
                grants: [1, 2, 100][self.below(3)],
                transports: self.byte(4) % 3,
            },
            32..52 => Operation::Pull {
                lease: self.below(1000),
                most: [1, 2, 10][self.below(3)],
            },
            52..57 => Operation::Renew(self.some(4)),
            57..60 => Operation::GiveBack(self.some(2)),
            60..76 => {
                let count = 1 + self.below(4);
                Operation::Complete((0..count).map(|_| self.report()).collect())
            }
            76..79 => Operation::CompleteAgain(self.below(1000)),
            79..82 => Operation::Expire,
            82..88 => self.act(),
            88..90 => Operation::List {
                filter: self.filter(),
                page: [1, 3, 100][self.below(3)],
            },
            90..91 => Operation::Find(self.byte(4)),
            91..93 => Operation::Bodies {
                forget: self.below(3),
            },
            _ => Operation::Advance {
                ms: [1, 900, 5_000, 11_000, 70_000, 1_800_000, 4_000_000][self.below(7)],
            },
        }
    }
}
