//! Crashes and faults.

use std::time::Duration;

use postrider_model::{Ruling, Verdict};
use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::journey_event::What;

use super::{Outcome, Play, World, check};
use crate::call::{Call, ask};
use crate::operation::Operation;
use crate::subject::Crash;

impl World {
    /// Takes a call as done, which nobody answered.
    fn assume(&mut self, call: &Call) {
        let model = &mut self.model;
        match call {
            Call::Enqueue(messages) => {
                for message in messages {
                    model.enqueue(message);
                }
            }
            Call::Import(messages) => {
                for message in messages {
                    model.import(message);
                }
            }
            Call::Complete(reports) => {
                for report in reports {
                    match model.judge(report) {
                        Verdict::Done => model.complete(report),
                        Verdict::Stale | Verdict::Repeated => model.totals.stale += 1,
                    }
                }
            }
            Call::Act { act, on, by } => {
                for id in on {
                    if model.rule(*id, act) != Ruling::Leaves {
                        model.act(*id, act, by);
                    }
                }
            }
            Call::GiveBack(tokens) => tokens.iter().for_each(|token| model.give_back(*token)),
            Call::GiveBackPart(part) => model.give_back_part(part),
            Call::Suspend(suspension) => model.suspend(suspension.clone()),
            Call::Resume(id) => {
                model.resume(id);
            }
            Call::PutRecord(record) => {
                model.put_record(record.clone());
            }
            other => panic!("{other:?} cannot be faulty"),
        }
    }
}

impl Play<'_> {
    /// Whether what was asked for while things failed was done or not, nobody said: both are right,
    /// but it must be one of them as a whole.
    pub(super) async fn faulty(&mut self, operation: &Operation, writes: u64) -> Outcome {
        let kind = self.world.kind;
        let mut calls: Vec<Call> = self.world.resolve(operation).into_iter().collect();
        if !kind.whole {
            self.world.keep_to_one_step(&mut calls);
        }
        let Some(call) = calls.pop() else {
            return Ok(());
        };
        let store = self.store();
        self.subject.break_down(writes).await;
        let mut answer = ask(&*store, call.clone()).await;
        drop(store);
        self.subject.mend().await;
        if !kind.whole && writes > 0 && answer.is_refusal() {
            // It may be done in one partition and not in another; made again, it is done in all.
            answer = ask(&*self.store(), call.clone()).await;
        }
        // Asked for twice, a stale report may be counted twice.
        self.world.model.totals.stale += u64::from(kind.asks_twice);
        if answer.is_refusal() && self.is_not_seen(&call) {
            answer = ask(&*self.store(), call.clone()).await;
        }
        let undone = self.world.clone();
        let mut done = self.world.clone();
        // What was answered must be done.
        let candidates = match answer.is_refusal() {
            true => {
                done.assume(&call);
                vec![undone, done]
            }
            false => {
                match (&call, kind.asks_twice) {
                    // There was none any more when it was asked for the second time.
                    (Call::Resume(_), true) => done.assume(&call),
                    _ => done.judge(&call, &answer)?,
                }
                vec![done]
            }
        };
        self.one_of(candidates, &call).await
    }

    /// The process that was asked dies, perhaps before it is told that it was done, perhaps in the middle of
    /// it: then whoever comes next finds it done as a whole, or not at all.
    pub(super) async fn abandoned(&mut self, operation: &Operation, after_us: u64) -> Outcome {
        let Some(mut call) = self.world.resolve(operation) else {
            return Ok(());
        };
        if let Call::Act { on, .. } = &mut call {
            on.truncate(1);
        }
        let store = self.store();
        let after = Duration::from_micros(after_us);
        let answer = tokio::time::timeout(after, ask(&*store, call.clone())).await;
        drop(store);
        if let Ok(answer) = answer {
            self.world.judge(&call, &answer)?;
            self.subject.crash(Crash::Process).await;
            return self.adopt().await;
        }
        let mut done = self.world.clone();
        done.assume(&call);
        self.subject.crash(Crash::Process).await;
        let candidates = match self.is_not_seen(&call) {
            true => {
                let answer = ask(&*self.store(), call.clone()).await;
                check!(!answer.is_refusal(), "{call:?} is refused: {answer:?}");
                vec![done]
            }
            false => vec![self.world.clone(), done],
        };
        self.one_of(candidates, &call).await
    }

    /// Whether nothing tells a call that was done from one that was not: slots that are given back with no
    /// delivery under them are only missed later. Asked again, it is done.
    fn is_not_seen(&self, call: &Call) -> bool {
        let gives_back = matches!(call, Call::GiveBack(_) | Call::GiveBackPart(_));
        gives_back && self.subject.leases_survive()
    }

    /// Goes on with the first of these that is what the store tells.
    async fn one_of(&mut self, candidates: Vec<World>, call: &Call) -> Outcome {
        let mut problems = Vec::new();
        for candidate in candidates {
            self.world = candidate;
            let fits = async {
                self.adopt().await?;
                self.compare().await?;
                self.compare_kept(call).await
            };
            match fits.await {
                Ok(()) => return Ok(()),
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems.join("\nnor: "))
    }

    /// Compares what a call may have changed and lists do not show.
    async fn compare_kept(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Suspend(_) | Call::Resume(_) => self.call(Call::Suspensions).await,
            Call::PutRecord(record) => self.call(Call::Records(record.kind.clone())).await,
            // Of these, nothing else may be seen.
            Call::Act { .. } | Call::Complete(_) => self.compare_journeys().await,
            _ => Ok(()),
        }
    }

    /// After a crash: takes over what it may have undone.
    pub(super) async fn adopt(&mut self) -> Outcome {
        let stats = self
            .store()
            .stats()
            .await
            .map_err(|error| error.to_string())?;
        let model = &mut self.world.model;
        // Counted in memory, for the operator's eye only.
        check!(
            stats.stale_completions <= model.totals.stale,
            "{} stale completions",
            stats.stale_completions
        );
        model.totals.stale = stats.stale_completions;
        if self.subject.leases_survive() {
            return Ok(());
        }
        for token in model.leases.keys().copied().collect::<Vec<_>>() {
            model.lose(token);
        }
        // Who waits how long may count anew.
        let now_us = model.now_us;
        for domain in 0..4 {
            let to = super::destination(domain);
            model.served_us.insert(to, now_us);
        }
        // What was given back just before may count as lost with its lease.
        for status in self.all().await? {
            let id: DeliveryId = status.delivery_id.parse().map_err(|_| "no id".to_owned())?;
            let model = &mut self.world.model;
            if let Some(delivery) = model.delivery(id)
                && delivery.given_back
                && status.attempts == delivery.attempts + 1
            {
                model.lapse_instead(id);
            }
        }
        for (id, notices) in self.world.model.removed_when_given_back() {
            let journey = self.store().journey(id.queue_id).await;
            let journey = journey.map_err(|error| error.to_string())?;
            let events = journey.iter().flat_map(|journey| &journey.events);
            let told = events.filter(|told| matches!(told.what, Some(What::Notice(_))));
            let all = stats
                .unknown_outcomes
                .saturating_sub(self.world.model.totals.unknown);
            if all > 0 && told.count() > notices {
                self.world.model.lapse_and_remove_instead(id);
            }
        }
        self.adopt_bodies().await?;
        for message in self.world.model.messages.values_mut() {
            for delivery in &mut message.deliveries {
                delivery.given_back = false;
            }
        }
        Ok(())
    }

    /// A crash may bring up a deleted body again, and forget one that has ended: whoever sweeps bodies
    /// that no message names finds it. None that is in use may be among them.
    async fn adopt_bodies(&mut self) -> Outcome {
        let mut ended = self
            .store()
            .ended_bodies(100)
            .await
            .map_err(|error| error.to_string())?;
        ended.sort();
        let used = self.world.model.bodies_in_use();
        check!(
            !ended.iter().any(|name| used.contains(name)),
            "ended bodies {ended:?} after a crash, {used:?} in use"
        );
        self.world.model.ended_bodies = ended;
        Ok(())
    }
}
