//! Does an operation to the store and to the model, and compares.
//!
//! An operation becomes a call ([`resolve`]), the store answers it, and the answer is judged by the
//! model, which follows it: one file a concern. What several do at once must be explained by one order
//! of them. [`breaking`] is about crashes and faults, [`comparing`] about all that can be seen.

mod acting;
mod breaking;
mod build;
mod comparing;
mod completing;
mod enqueueing;
mod leasing;
mod listing;
mod moving;
mod resolve;
mod suspending;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use postrider_model::Model;
use postrider_protocol::DeliveryId;
use postrider_queue::store::clock::micros;
use postrider_queue::store::{Act, Completion, Store, StoreError};

use crate::call::{Answer, Call, ask};
use crate::kind::Kind;
use crate::operation::Operation;
use crate::subject::{BEGIN_US, Subject};

pub(crate) use build::destination;

type Outcome<T = ()> = Result<T, String>;

macro_rules! check {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
use check;

/// What is known of the store.
#[derive(Clone)]
struct World {
    model: Model,
    kind: Kind,
    /// Tokens that were granted, dead or alive.
    tokens: Vec<u64>,
    /// Completions that were made.
    completions: Vec<Completion>,
    /// How often in a row the store asked to be asked again at once.
    at_once: u32,
}

/// One history in play.
pub(crate) struct Play<'a> {
    subject: &'a mut dyn Subject,
    world: World,
}

impl World {
    /// Judges an answer; the model follows it.
    fn judge(&mut self, call: &Call, answer: &Answer) -> Outcome {
        match (call, answer) {
            (Call::Enqueue(messages), Answer::Accepted(each)) => self.enqueued(messages, each),
            (Call::Import(messages), Answer::Accepted(each)) => self.imported(messages, each),
            (Call::Lease { request, most }, Answer::Grants(grants)) => {
                self.granted(request, *most, said(grants)?)
            }
            (Call::Pull { token, most }, Answer::Pulled(pulled)) => {
                self.pulled(*token, *most, said(pulled)?.as_deref())
            }
            (Call::Renew(tokens), Answer::Stale(stale)) => self.renewed(tokens, said(stale)?),
            (Call::GiveBack(tokens), Answer::Done(done)) => {
                said(done)?;
                tokens.iter().for_each(|token| self.model.give_back(*token));
                Ok(())
            }
            (Call::GiveBackPart(part), Answer::Done(done)) => {
                said(done)?;
                self.model.give_back_part(part);
                Ok(())
            }
            (Call::Complete(batch), Answer::Completed(each)) => self.completed(batch, each),
            (Call::Expire, Answer::Next(next)) => self.expired(*said(next)?),
            (Call::Act { act, on, by }, Answer::Changed(changed)) => {
                self.acted(act, on, by, said(changed)?)
            }
            (Call::List { filter, .. }, Answer::Listed(listed)) => {
                self.listed(filter, listed.as_ref())
            }
            (Call::Find { what, limit }, Answer::Found(found)) => {
                self.found(what, *limit, said(found)?)
            }
            (Call::Suspend(suspension), Answer::Done(done)) => {
                said(done)?;
                self.model.suspend(suspension.clone());
                Ok(())
            }
            (Call::Resume(id), Answer::Was(was)) => self.resumed(id, *said(was)?),
            (Call::Suspensions, Answer::Suspensions(all)) => self.suspensions_are(said(all)?),
            (Call::PutRecord(record), Answer::Was(put)) => self.put(record, *said(put)?),
            (Call::DeleteRecord { kind, key }, Answer::Done(done)) => {
                said(done)?;
                self.model.records.remove(&(kind.clone(), key.clone()));
                Ok(())
            }
            (Call::Records(kind), Answer::Records(all)) => self.records_are(kind, said(all)?),
            (Call::Export { .. }, Answer::Exported(all)) => self.exported(said(all)?),
            (Call::BodiesInUse(_), Answer::Bodies(used)) => self.bodies_used(said(used)?),
            (Call::EndedBodies, Answer::Bodies(ended)) => self.bodies_ended(said(ended)?),
            (Call::ForgetBodies(names), Answer::Done(done)) => {
                said(done)?;
                self.model.ended_bodies.retain(|name| !names.contains(name));
                Ok(())
            }
            (call, answer) => Err(format!("{call:?} was answered by {answer:?}")),
        }
    }
}

fn said<T>(answer: &Result<T, StoreError>) -> Outcome<&T> {
    answer.as_ref().map_err(ToString::to_string)
}

impl<'a> Play<'a> {
    pub(crate) fn new(subject: &'a mut dyn Subject, kind: Kind) -> Self {
        let world = World {
            model: Model::new(subject.settings(), BEGIN_US),
            kind,
            tokens: Vec::new(),
            completions: Vec::new(),
            at_once: 0,
        };
        Self { subject, world }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.subject.store()
    }

    pub(crate) async fn step(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Advance { ms } => {
                let by = Duration::from_millis(*ms);
                self.subject.advance(by).await;
                self.world.model.now_us += micros(by);
            }
            Operation::Crash(how) => {
                self.subject.crash(*how).await;
                self.adopt().await?;
            }
            Operation::Together(operations) => self.together(operations).await?,
            Operation::Faulty { operation, writes } => self.faulty(operation, *writes).await?,
            Operation::Abandoned {
                operation,
                after_us,
            } => self.abandoned(operation, *after_us).await?,
            Operation::Move { page } => self.change_stores(*page).await?,
            Operation::Bodies { forget } => self.bodies(*forget).await?,
            operation => {
                if let Some(call) = self.world.resolve(operation) {
                    self.call(call).await?;
                }
            }
        }
        self.compare().await
    }

    async fn call(&mut self, call: Call) -> Outcome {
        let answer = ask(&*self.store(), call.clone()).await;
        self.world.judge(&call, &answer)
    }

    /// Calls made at once: there must be an order of them that explains all answers, and what is there
    /// afterwards.
    async fn together(&mut self, operations: &[Operation]) -> Outcome {
        // What expires meanwhile would be nobody's doing.
        self.call(Call::Expire).await?;
        let calls = operations.iter();
        let mut calls: Vec<Call> = calls
            .filter_map(|operation| self.world.resolve(operation))
            .collect();
        keep_apart(&mut calls);
        if !self.world.kind.whole {
            self.world.keep_to_one_step(&mut calls);
        }
        let store = self.store();
        let asked = calls.iter().map(|call| ask(&*store, call.clone()));
        let answers = join_all(asked).await;
        let before = self.world.clone();
        let mut problems = Vec::new();
        for order in orders(calls.len()) {
            self.world = before.clone();
            let mut judged = order.iter();
            let explained = judged.try_for_each(|at| self.world.judge(&calls[*at], &answers[*at]));
            let explained = match explained {
                Ok(()) => self.compare().await,
                Err(problem) => Err(problem),
            };
            match explained {
                Ok(()) => return Ok(()),
                Err(problem) => problems.push(format!("in the order {order:?}: {problem}")),
            }
        }
        Err(format!(
            "no order explains these answers:\n{}",
            problems.join("\n")
        ))
    }

    /// What is over by the clock is over in the store at the latest when it is told to look.
    async fn look_at_the_clock(&mut self) -> Outcome {
        match self.world.model.is_overdue() {
            true => self.call(Call::Expire).await,
            false => Ok(()),
        }
    }
}

impl World {
    /// Leaves out what concerns several partitions, and so is no step of its own where there are some: whoever
    /// comes in between finds a part of it.
    fn keep_to_one_step(&self, calls: &mut Vec<Call>) {
        for call in calls.iter_mut() {
            match call {
                Call::Enqueue(messages) => {
                    for message in messages {
                        let envelope = message.envelope.as_mut().unwrap();
                        let to = envelope.recipients[0].destination.clone();
                        envelope.recipients.retain(|it| it.destination == to);
                    }
                }
                Call::Complete(reports) => reports.iter_mut().for_each(|it| it.dsn.clear()),
                _ => {}
            }
        }
        let moves = |id: DeliveryId| {
            let delivery = self.model.delivery(id);
            let pending = delivery.and_then(|delivery| delivery.pending.as_ref());
            matches!(pending, Some(Act::Reroute { .. }))
        };
        calls.retain(|call| match call {
            Call::Complete(reports) => !reports.iter().any(|it| moves(it.delivery)),
            Call::GiveBack(tokens) => !tokens
                .iter()
                .flat_map(|token| self.model.leased_under(*token))
                .any(moves),
            _ => true,
        });
    }
}

/// Leaves out what two calls would do to one message: each completion is a step of its own, so that
/// more than the order of the calls would be free.
fn keep_apart(calls: &mut [Call]) {
    let mut taken = HashSet::new();
    for call in calls {
        if let Call::Complete(reports) = call {
            reports.retain(|report| !taken.contains(&report.delivery.queue_id));
            taken.extend(reports.iter().map(|report| report.delivery.queue_id));
        }
    }
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for next in 0..count {
        let longer = all.iter().flat_map(|order: &Vec<usize>| {
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, next);
                longer
            })
        });
        all = longer.collect();
    }
    all
}
