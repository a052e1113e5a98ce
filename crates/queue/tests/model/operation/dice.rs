//! Draws operations by chance.

use rand::rngs::StdRng;
use rand::{Rng, RngExt as _};

use super::{
    ActSpec, FilterSpec, FindSpec, NewSpec, Operation, Place, ReportSpec, SuspensionSpec, Twist,
    Who,
};
use crate::history::Plan;
use crate::subject::Crash;

/// Times that something lasts, in milliseconds.
const TIMES: [u64; 5] = [1, 5_000, 60_000, 600_000, 5_000_000];

/// Draws operations that a store can do.
pub(crate) struct Dice {
    chance: StdRng,
    plan: Plan,
}

impl Dice {
    pub(crate) fn new(chance: StdRng, plan: Plan) -> Self {
        Self { chance, plan }
    }

    fn below(&mut self, end: usize) -> usize {
        self.chance.random_range(0..end)
    }

    fn byte(&mut self, end: u8) -> u8 {
        self.chance.random_range(0..end)
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn time(&mut self) -> u64 {
        TIMES[self.below(TIMES.len())]
    }

    fn some(&mut self, most: usize) -> Vec<usize> {
        let count = 1 + self.below(most);
        (0..count).map(|_| self.below(1000)).collect()
    }

    fn id(&mut self) -> u128 {
        u128::from(self.chance.next_u64()) << 32
    }

    fn message(&mut self) -> NewSpec {
        let recipients = 1 + self.below(4);
        NewSpec {
            id: self.id(),
            recipients: (0..recipients)
                .map(|_| (self.byte(3), self.byte(4)))
                .collect(),
            sender: self.byte(3),
            message_id: self.byte(4),
            stored: self.one_in(8).then(|| self.byte(3)),
            tenant: self.byte(3),
            priority: [0, 0, 0, -9, 3, 9][self.below(6)],
            release_ms: self.one_in(6).then(|| self.time()),
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
            dsn: self.one_in(4).then(|| self.message()),
            delay_warned: self.one_in(4),
            worker: self.byte(3),
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
            2 => filter.destination = Some(Place::One(self.byte(4))),
            3 => filter.sender = Some(self.sender()),
            4 => filter.recipient = Some(Who::Recipient(self.byte(3), self.byte(4))),
            _ => filter.held = true,
        }
        if self.one_in(4) {
            filter.destination = Some(Place::One(self.byte(4)));
        }
        if self.one_in(2) {
            self.widen(&mut filter);
        }
        filter
    }

    fn sender(&mut self) -> Who {
        match self.below(3) {
            0 => Who::Null,
            _ => Who::Sender(1 + self.byte(2)),
        }
    }

    fn widen(&mut self, filter: &mut FilterSpec) {
        match self.below(12) {
            0 => filter.tenant = Some(1 + self.byte(2)),
            1 => filter.suspended = true,
            2 => filter.unknown = true,
            3 => filter.min_attempts = 1 + u32::from(self.byte(2)),
            4 => filter.accepted_before_ms = Some(self.time()),
            5 => filter.accepted_after_ms = Some(self.time()),
            6 => filter.last_reply = Some(self.byte(4)),
            7 => filter.destination = Some(Place::Below),
            8 => filter.destination = Some(Place::Transport),
            9 => filter.destination = Some(Place::All),
            10 => filter.sender = Some(Who::SenderDomain),
            _ => filter.recipient = Some(Who::RecipientDomain(self.byte(4))),
        }
    }

    fn act(&mut self) -> Operation {
        let act = match self.below(8) {
            0 => ActSpec::Hold { for_ms: None },
            1 | 2 => ActSpec::Release,
            3 => ActSpec::Retry,
            4 => ActSpec::Remove,
            5 => ActSpec::Bounce,
            6 => ActSpec::Hold {
                for_ms: Some(self.time()),
            },
            _ => ActSpec::Reroute {
                domain: self.byte(4),
            },
        };
        Operation::Act {
            act,
            filter: self.filter(),
            also: match self.below(4) {
                0 => self.some(3),
                _ => Vec::new(),
            },
        }
    }

    fn suspension(&mut self) -> SuspensionSpec {
        let mut suspension = SuspensionSpec {
            id: self.byte(3),
            domain: None,
            sender: None,
            tenant: None,
            for_ms: self.one_in(2).then(|| self.time()),
        };
        let which = 1 + self.below(7);
        if which & 1 > 0 {
            suspension.domain = Some(self.byte(4));
        }
        if which & 2 > 0 {
            suspension.sender = Some(match self.below(4) {
                0 => Who::SenderDomain,
                _ => self.sender(),
            });
        }
        if which & 4 > 0 {
            suspension.tenant = Some(1 + self.byte(2));
        }
        suspension
    }

    fn suspending(&mut self) -> Operation {
        match self.below(8) {
            0..4 => Operation::Suspend(self.suspension()),
            4..7 => Operation::Resume(self.byte(3)),
            _ => Operation::Suspensions,
        }
    }

    fn recording(&mut self) -> Operation {
        let (kind, key) = (self.byte(2), self.byte(3));
        match self.below(8) {
            0..4 => Operation::PutRecord {
                kind,
                key,
                step: [0, 1, 1, 1, 2][self.below(5)],
                value: self.byte(250),
            },
            4 => Operation::DeleteRecord { kind, key },
            _ => Operation::Records(kind),
        }
    }

    fn find(&mut self) -> Operation {
        let what = match self.below(3) {
            0 => FindSpec::MessageId(1 + self.byte(3)),
            1 => FindSpec::Sender(self.byte(3)),
            _ => FindSpec::Recipient(self.byte(3), self.byte(4)),
        };
        Operation::Find {
            what,
            limit: [1, 100, 100][self.below(3)],
        }
    }

    fn moving(&mut self) -> Operation {
        let page = [1, 3, 100][self.below(3)];
        match self.below(8) {
            0..4 => Operation::Export { page },
            4..7 => Operation::Import {
                which: self.below(1000),
                id: self.id(),
                again: self.below(1000),
            },
            _ => Operation::Move { page },
        }
    }

    fn lease(&mut self) -> Operation {
        Operation::Lease {
            worker: self.byte(3),
            slots: [1, 2, 5, 100][self.below(4)],
            grants: [1, 2, 100][self.below(3)],
            transports: self.byte(4) % 3,
        }
    }

    fn pull(&mut self) -> Operation {
        Operation::Pull {
            lease: self.below(1000),
            most: [1, 2, 10][self.below(3)],
        }
    }

    fn give_back_part(&mut self) -> Operation {
        Operation::GiveBackPart {
            lease: self.below(1000),
            which: match self.below(3) {
                0 => Vec::new(),
                _ => self.some(3),
            },
            slots: [0, 1, 2, 100][self.below(4)],
        }
    }

    fn complete(&mut self) -> Operation {
        let count = 1 + self.below(4);
        Operation::Complete((0..count).map(|_| self.report()).collect())
    }

    fn enqueue(&mut self) -> Operation {
        let count = 1 + self.below(4);
        Operation::Enqueue((0..count).map(|_| self.message()).collect())
    }

    /// What several may do at once.
    fn together(&mut self) -> Operation {
        let count = 1 + self.below(2);
        let each = (0..count).map(|_| match self.below(7) {
            // Each message and each report of a batch is a step of its own, so one of them.
            0 => Operation::Enqueue(vec![self.message()]),
            1 | 2 => self.pull(),
            3 | 4 => Operation::Complete(vec![self.report()]),
            5 => self.give_back_part(),
            _ => Operation::GiveBack(vec![self.below(1000)]),
        });
        let mut all: Vec<Operation> = each.collect();
        // Of several destinations each is granted by a step of its own, so one of these at most.
        all.push(match self.one_in(2) {
            true => self.lease(),
            false => self.pull(),
        });
        Operation::Together(all)
    }

    /// Something that changes one thing, so that half of it cannot happen.
    fn faulty(&mut self) -> Operation {
        let operation = match self.below(5) {
            2 => match self.one_in(2) {
                true => Operation::Suspend(self.suspension()),
                false => Operation::Resume(self.byte(3)),
            },
            3 => Operation::PutRecord {
                kind: self.byte(2),
                key: self.byte(3),
                step: 1,
                value: self.byte(250),
            },
            4 => Operation::Import {
                which: self.below(1000),
                id: self.id(),
                again: usize::MAX,
            },
            0 => Operation::Enqueue(vec![self.message()]),
            _ => Operation::Complete(vec![self.report()]),
        };
        Operation::Faulty {
            operation: Box::new(operation),
            writes: self.chance.random_range(0..3),
        }
    }

    /// Something that changes one thing, which its process may not live to see done.
    fn abandoned(&mut self) -> Operation {
        let operation = match self.below(9) {
            0 => Operation::Enqueue(vec![self.message()]),
            1 | 2 => Operation::Complete(vec![self.report()]),
            3 => Operation::GiveBack(vec![self.below(1000)]),
            4 => self.give_back_part(),
            _ => self.act(),
        };
        Operation::Abandoned {
            operation: Box::new(operation),
            after_us: [0, 200, 1000, 2000, 5000][self.below(5)],
        }
    }

    /// The next operation.
    pub(crate) fn roll(&mut self) -> Operation {
        let fate: u32 = self.chance.random_range(0..1000);
        let Plan {
            crashes,
            server_crashes,
            faults,
            abandons,
            ..
        } = self.plan;
        if fate < server_crashes {
            return Operation::Crash(Crash::Server);
        }
        if fate < server_crashes + crashes {
            return Operation::Crash(Crash::Process);
        }
        if fate < server_crashes + crashes + faults {
            return self.faulty();
        }
        if fate < server_crashes + crashes + faults + abandons {
            return self.abandoned();
        }
        match self.below(114) {
            0..14 => self.enqueue(),
            14..17 => Operation::EnqueueAgain(self.some(3), self.message()),
            17..32 => self.lease(),
            32..50 => self.pull(),
            50..55 => Operation::Renew(self.some(4)),
            55..58 => Operation::GiveBack(self.some(2)),
            58..72 => self.complete(),
            72..75 => Operation::CompleteAgain(self.below(1000)),
            75..78 => Operation::Expire,
            78..85 => self.act(),
            85..87 => Operation::List {
                filter: self.filter(),
                page: [1, 3, 100][self.below(3)],
            },
            87..88 => self.find(),
            88..90 => Operation::Bodies {
                forget: self.below(3),
            },
            90..94 => self.suspending(),
            94..97 => self.recording(),
            97..99 => self.moving(),
            99..103 => self.together(),
            103..107 => self.give_back_part(),
            _ => Operation::Advance {
                ms: [1, 900, 5_000, 11_000, 70_000, 1_800_000, 4_000_000][self.below(7)],
            },
        }
    }
}
