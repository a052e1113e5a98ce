//! Which call an operation is, as things stand.

use std::time::Duration;

use bytes::Bytes;
use postrider_model::{State, view};
use postrider_protocol::queue_v1::{
    Attempt, DeliveryStatus, Filter, OutcomeKind, RecipientOutcome, Suspension,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::filter::Matcher;
use postrider_queue::store::{Act, By, Completion, Find, LeaseRequest, PartialReturn, Record};

use super::{World, build};
use crate::call::Call;
use crate::operation::{
    ActSpec, FilterSpec, FindSpec, Operation, ReportSpec, SuspensionSpec, Twist,
};

impl World {
    /// The call, or `None` where there is nothing to do it to.
    pub(super) fn resolve(&self, operation: &Operation) -> Option<Call> {
        let now_us = self.model.now_us;
        Some(match operation {
            Operation::Enqueue(specs) => {
                let messages = specs.iter().map(|spec| build::message(spec, now_us));
                Call::Enqueue(messages.collect())
            }
            Operation::EnqueueAgain(which, new) => {
                let again = which
                    .iter()
                    .filter_map(|which| self.known(*which))
                    .filter(|id| !self.model.may_be_forgotten(*id))
                    .map(|id| self.model.messages[&id].new.clone());
                let mut messages: Vec<_> = again.collect();
                let new = build::message(new, now_us);
                messages.push(new.clone());
                messages.push(new);
                Call::Enqueue(messages)
            }
            Operation::Lease {
                worker,
                slots,
                grants,
                transports,
            } => Call::Lease {
                request: LeaseRequest {
                    worker: format!("w{worker}"),
                    transports: match transports {
                        0 => vec!["smtp".to_owned(), "mailbox".to_owned()],
                        1 => vec!["smtp".to_owned()],
                        _ => vec!["mailbox".to_owned()],
                    },
                    slots: *slots,
                },
                most: *grants,
            },
            Operation::Pull { lease, most } => Call::Pull {
                token: self.token(*lease),
                most: *most,
            },
            Operation::Renew(which) => {
                let mut tokens: Vec<u64> = which.iter().map(|which| self.token(*which)).collect();
                tokens.sort_unstable();
                tokens.dedup();
                tokens.push(u64::from(u32::MAX) << 10);
                Call::Renew(tokens)
            }
            Operation::GiveBack(which) => {
                Call::GiveBack(which.iter().map(|which| self.token(*which)).collect())
            }
            Operation::GiveBackPart {
                lease,
                which,
                slots,
            } => {
                let token = self.token(*lease);
                // Those that are leased under it, and some that are not.
                let mut all = self.model.leased_under(token);
                all.extend(self.model.open().map(|(id, _)| id).take(2));
                let some = which.iter().map(|which| all.get(which % all.len().max(1)));
                Call::GiveBackPart(PartialReturn {
                    token,
                    deliveries: some.flatten().copied().collect(),
                    slots: *slots,
                })
            }
            Operation::Complete(specs) => Call::Complete(self.reports(specs)),
            Operation::CompleteAgain(which) => {
                let count = self.completions.len().max(1);
                let again = self.completions.get(which % count)?.clone();
                // Without its attempt's number a repeated report cannot be told from a new one.
                (again.attempt.number != 0).then(|| Call::Complete(vec![again]))?
            }
            Operation::Expire => Call::Expire,
            Operation::Act { act, filter, also } => {
                let filter = self.filter(filter);
                let matching = self.matching(&filter).into_iter();
                let mut on: Vec<DeliveryId> = matching
                    .map(|status| status.delivery_id.parse().unwrap())
                    .collect();
                on.extend(also.iter().filter_map(|which| {
                    Some(DeliveryId {
                        queue_id: self.known(*which)?,
                        number: (*which % 3) as u32,
                    })
                }));
                Call::Act {
                    act: self.act(*act),
                    on,
                    by: By {
                        operator: "ann".to_owned(),
                        reason: "a test".to_owned(),
                    },
                }
            }
            Operation::List { filter, page } => Call::List {
                filter: self.filter(filter),
                page: *page,
            },
            Operation::Find { what, limit } => Call::Find {
                what: match what {
                    FindSpec::MessageId(number) => Find::MessageId(build::message_id(*number)),
                    FindSpec::Sender(number) => Find::Sender(build::sender(*number).to_uppercase()),
                    FindSpec::Recipient(user, domain) => {
                        Find::Recipient(build::address(*user, *domain).to_uppercase())
                    }
                },
                limit: *limit,
            },
            Operation::Suspend(spec) => Call::Suspend(self.suspension(spec)),
            Operation::Resume(id) => Call::Resume(format!("s{id}")),
            Operation::Suspensions => Call::Suspensions,
            Operation::PutRecord {
                kind,
                key,
                step,
                value,
            } => {
                let (kind, key) = (format!("kind{kind}"), format!("key-{key}"));
                let there = self.model.records.get(&(kind.clone(), key.clone()));
                Call::PutRecord(Record {
                    version: there.map_or(0, |there| there.version) + step,
                    value: Bytes::from(vec![*value; usize::from(*value)]),
                    kind,
                    key,
                })
            }
            Operation::DeleteRecord { kind, key } => Call::DeleteRecord {
                kind: format!("kind{kind}"),
                key: format!("key-{key}"),
            },
            Operation::Records(kind) => Call::Records(format!("kind{kind}")),
            Operation::Export { page } => Call::Export { page: *page },
            Operation::Import { which, id, again } => self.import(*which, *id, *again)?,
            Operation::Move { .. }
            | Operation::Bodies { .. }
            | Operation::Advance { .. }
            | Operation::Crash(_)
            | Operation::Together(_)
            | Operation::Abandoned { .. }
            | Operation::Faulty { .. } => return None,
        })
    }

    /// A token that was granted, the newest first.
    fn token(&self, which: usize) -> u64 {
        // Now and then a token that was never given.
        match self.tokens.len() {
            0 => 999,
            count => self.tokens[count - 1 - which % count],
        }
    }

    fn known(&self, which: usize) -> Option<QueueId> {
        let known = &self.model.accepted;
        (!known.is_empty()).then(|| known[which % known.len()])
    }

    fn act(&self, act: ActSpec) -> Act {
        match act {
            ActSpec::Retry => Act::Retry,
            ActSpec::Hold { for_ms } => Act::Hold {
                until_us: for_ms.map(|ms| self.model.now_us + ms * 1000),
            },
            ActSpec::Release => Act::Release,
            ActSpec::Remove => Act::Remove,
            ActSpec::Bounce => Act::Bounce,
            ActSpec::Reroute { domain } => Act::Reroute {
                to: build::destination(domain),
            },
        }
    }

    fn suspension(&self, spec: &SuspensionSpec) -> Suspension {
        let id = format!("s{}", spec.id);
        let now_us = self.model.now_us;
        let there = self.model.suspensions.get(&id);
        Suspension {
            destination: spec
                .domain
                .map(|domain| build::destination(domain).to_string())
                .unwrap_or_default(),
            sender: spec.sender.map(build::who).unwrap_or_default(),
            tenant: spec.tenant.map(build::tenant).unwrap_or_default(),
            until_us: spec.for_ms.map_or(0, |ms| now_us + ms * 1000),
            created_us: there.map_or(now_us, |there| there.created_us),
            operator: "ann".to_owned(),
            reason: "a test".to_owned(),
            id,
        }
    }

    fn filter(&self, spec: &FilterSpec) -> Filter {
        let known = spec.messages.iter().filter_map(|which| self.known(*which));
        let mut queue_ids: Vec<String> = known.map(|id| id.to_string()).collect();
        if !spec.messages.is_empty() {
            queue_ids.push(QueueId::from_u128(7).to_string());
        }
        let ago = |ms: Option<u64>| ms.map_or(0, |ms| self.model.now_us - ms * 1000);
        Filter {
            queue_ids,
            destination: spec.destination.map(build::place).unwrap_or_default(),
            sender: spec.sender.map(build::who).unwrap_or_default(),
            recipient: spec.recipient.map(build::who).unwrap_or_default(),
            tenant: spec.tenant.map(build::tenant).unwrap_or_default(),
            held: spec.held,
            suspended: spec.suspended,
            unknown: spec.unknown,
            accepted_before_us: ago(spec.accepted_before_ms),
            accepted_after_us: ago(spec.accepted_after_ms),
            min_attempts: spec.min_attempts,
            last_reply: spec
                .last_reply
                .map(|place| format!("MAYBE {place}"))
                .unwrap_or_default(),
        }
    }

    pub(super) fn matching(&self, filter: &Filter) -> Vec<DeliveryStatus> {
        let matcher = Matcher::new(filter).unwrap();
        view::matching(&self.model, &matcher)
    }

    fn import(&self, which: usize, id: u128, again: usize) -> Option<Call> {
        let queued: Vec<QueueId> = self.model.messages.keys().copied().collect();
        let queued: Vec<QueueId> = queued
            .into_iter()
            .filter(|id| self.model.messages[id].ended_us.is_none())
            .collect();
        let which = *queued.get(which % queued.len().max(1))?;
        let mut copy = view::exported(&self.model, which);
        copy.message.as_mut()?.queue_id = QueueId::from_u128(id).to_string();
        let mut messages = vec![copy.clone()];
        if again != usize::MAX {
            messages.push(view::exported(&self.model, queued[again % queued.len()]));
            messages.push(copy);
        }
        Some(Call::Import(messages))
    }

    /// Completions for what is leased, some of them wrong.
    fn reports(&self, specs: &[ReportSpec]) -> Vec<Completion> {
        let leased: Vec<(DeliveryId, u64)> = self
            .model
            .open()
            .filter_map(|(id, delivery)| match delivery.state {
                State::Leased(token) => Some((id, token)),
                _ => None,
            })
            .collect();
        if leased.is_empty() {
            return Vec::new();
        }
        let reports = specs.iter().map(|spec| {
            let (delivery, token) = leased[spec.which % leased.len()];
            self.report(spec, delivery, token)
        });
        reports.collect()
    }

    fn report(&self, spec: &ReportSpec, id: DeliveryId, mut token: u64) -> Completion {
        let delivery = self.model.delivery(id).unwrap();
        let mut number = delivery.attempts + 1;
        let placed = delivery.open.iter().enumerate();
        let mut outcomes: Vec<RecipientOutcome> = placed
            .filter_map(|(at, recipient)| {
                let kind = match spec.outcomes[at % spec.outcomes.len()] {
                    0 => OutcomeKind::Delivered,
                    1 => OutcomeKind::Deferred,
                    2 => OutcomeKind::Failed,
                    3 => OutcomeKind::Unknown,
                    _ => return None,
                };
                Some(outcome(&recipient.address, kind, at as u32))
            })
            .collect();
        match spec.twist {
            Twist::Nothing => {}
            Twist::WrongToken => token = (1 << 50) + 1,
            Twist::OtherToken(which) => token = self.token(which),
            Twist::NoNumber => number = 0,
            Twist::WrongNumber => number = number.saturating_sub(1).max(1),
            Twist::Stranger => {
                outcomes.insert(0, outcome("who@else.test", OutcomeKind::Delivered, 0));
            }
        }
        let now_us = self.model.now_us;
        Completion {
            delivery: id,
            token,
            attempt: Attempt {
                destination: delivery.destination.to_string(),
                number,
                outcomes,
                remote_host: "mx.test".to_owned(),
                ..Attempt::default()
            },
            retry_after: Duration::from_secs(spec.retry_s),
            dsn: spec
                .dsn
                .iter()
                .map(|dsn| build::message(dsn, now_us))
                .collect(),
            delay_warned: spec.delay_warned,
            worker: format!("delivery@w{}", spec.worker),
        }
    }
}

fn outcome(address: &str, kind: OutcomeKind, place: u32) -> RecipientOutcome {
    RecipientOutcome {
        address: address.to_owned(),
        kind: kind.into(),
        reply_code: 400 + place,
        reply_text: format!("maybe {place}"),
        ..RecipientOutcome::default()
    }
}
