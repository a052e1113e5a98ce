//! Reporting attempts.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::queue_v1::{Attempt, Notice, OutcomeKind, RecipientOutcome, journey_event};
use prost::Message as _;
use redis::Cmd;

use super::answer;
use super::core::{self, Core, micros};
use super::gather::{Asked, Gather};
use super::link::Repeat;
use super::message::{self, Packed};
use super::partition::Partitions;
use super::spread::Addressed;
use crate::store::{Completed, Completion, StoreError};

type Ask = Asked<Report, Result<Applied, StoreError>>;
pub(super) type Completer = Gather<Report, Result<Applied, StoreError>>;

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    Now,
    /// Just now, and the delivery leaves for another partition.
    Leaves,
    /// It was applied before, under this token and number.
    Before,
    Stale,
}

impl From<Applied> for Completed {
    fn from(applied: Applied) -> Self {
        match applied {
            Applied::Now | Applied::Leaves | Applied::Before => Self::Done,
            Applied::Stale => Self::Stale,
        }
    }
}

pub(super) fn start(core: Arc<Core>) -> Completer {
    Gather::start(core::BATCH_BYTES, move |batch| {
        let core = core.clone();
        async move { carry_out(&core, batch).await }
    })
}

/// A completion as the script's arguments.
pub(super) struct Report {
    args: Vec<Bytes>,
    dsn: Vec<Dsn>,
}

/// A DSN that becomes durable with the report.
struct Dsn {
    /// The notice for the journey of the message that it is about.
    notice: Bytes,
    /// The partition that it goes to, if that is another one.
    to: Option<usize>,
    packed: Packed,
}

impl Report {
    fn new(completion: Completion, instance: &str) -> Result<Self, StoreError> {
        Self::with_dsn(completion, instance, |notice, packed, dsn| {
            dsn.push(Dsn {
                notice,
                to: None,
                packed,
            });
        })
    }

    /// As [`Report::new`], in a queue of several partitions; what goes to others than `here` is
    /// handed to the caller as well.
    pub(super) fn spread(
        completion: Completion,
        instance: &str,
        partitions: Partitions,
        here: usize,
        foreign: &mut Vec<Addressed>,
    ) -> Result<Self, StoreError> {
        Self::with_dsn(completion, instance, |notice, packed, dsn| {
            let mut notice = notice;
            for (to, packed) in packed.divide(partitions) {
                if to != here {
                    foreign.push((to, packed.clone()));
                }
                dsn.push(Dsn {
                    // Told once, however many parts there are.
                    notice: std::mem::take(&mut notice),
                    to: (to != here).then_some(to),
                    packed,
                });
            }
        })
    }

    fn with_dsn(
        completion: Completion,
        instance: &str,
        mut add: impl FnMut(Bytes, Packed, &mut Vec<Dsn>),
    ) -> Result<Self, StoreError> {
        let Completion {
            delivery,
            token,
            attempt,
            retry_after,
            dsn,
            delay_warned,
            worker,
        } = completion;
        let mut packed_dsn = Vec::with_capacity(dsn.len());
        for message in dsn {
            let packed = Packed::new(message, instance)?;
            let notice = Notice {
                text: format!("DSN {} queued", packed.id),
                dsn_queue_id: packed.id.to_string(),
                ..Notice::default()
            };
            let notice = message::event(instance, journey_event::What::Notice(notice));
            add(notice.into(), packed, &mut packed_dsn);
        }
        let mut outcomes = first_of_each(&attempt.outcomes);
        // An outcome that says nothing is none: its recipient counts as not attempted.
        outcomes.retain(|outcome| outcome.kind() != OutcomeKind::Unspecified);
        let unknown = outcomes
            .iter()
            .any(|outcome| outcome.kind() == OutcomeKind::Unknown);
        let kept = Attempt {
            outcomes: outcomes
                .iter()
                .filter(|outcome| !ends(outcome.kind()))
                .map(|outcome| (*outcome).clone())
                .collect(),
            ..Attempt::default()
        };
        let mut args: Vec<Bytes> = vec![
            token.to_string().into(),
            delivery.queue_id.to_string().into(),
            delivery.number.to_string().into(),
            attempt.number.to_string().into(),
            micros(retry_after).to_string().into(),
            flag(unknown),
            flag(delay_warned),
        ];
        let outcomes: Vec<Bytes> = std::iter::once(outcomes.len().to_string().into())
            .chain(outcomes.iter().flat_map(|outcome| {
                [
                    (outcome.kind() as i32).to_string().into(),
                    outcome.address.clone().into(),
                ]
            }))
            .collect();
        let attempt = Attempt {
            next_attempt_us: 0,
            ..attempt
        };
        args.push(message::event(&worker, journey_event::What::Attempt(attempt)).into());
        args.push(kept.encode_to_vec().into());
        args.extend(outcomes);
        Ok(Self {
            args,
            dsn: packed_dsn,
        })
    }

    fn add_to(&self, cmd: &mut Cmd) {
        for arg in &self.args {
            cmd.arg(arg.as_ref());
        }
        cmd.arg(self.dsn.len());
        for dsn in &self.dsn {
            cmd.arg(dsn.notice.as_ref());
            match dsn.to {
                None => cmd.arg(""),
                Some(partition) => cmd.arg(partition),
            };
            dsn.packed.add_whole_to(cmd);
        }
    }

    fn weight(&self) -> usize {
        let own: usize = self.args.iter().map(|arg| arg.len() + 16).sum();
        let dsn: usize = self
            .dsn
            .iter()
            .map(|dsn| dsn.notice.len() + dsn.packed.weight())
            .sum();
        own + dsn
    }
}

fn flag(set: bool) -> Bytes {
    Bytes::from_static(if set { b"1" } else { b"0" })
}

fn ends(kind: OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Delivered | OutcomeKind::Failed)
}

/// The first outcome of each address, which is the one that counts.
fn first_of_each(outcomes: &[RecipientOutcome]) -> Vec<&RecipientOutcome> {
    let mut seen = HashSet::with_capacity(outcomes.len());
    outcomes
        .iter()
        .filter(|outcome| seen.insert(outcome.address.as_str()))
        .collect()
}

async fn carry_out(core: &Core, batch: Vec<Ask>) {
    let mut cmd = core.call(&core.scripts.complete);
    cmd.arg(message::held_by_policy(&core.settings.instance))
        .arg(batch.len());
    for ask in &batch {
        ask.what.add_to(&mut cmd);
    }
    let results = core
        .safe
        .run(&core.scripts.complete, &cmd, Repeat::Safe)
        .await
        .and_then(|value| answer::numbers(value, batch.len(), "complete"));
    let mut results = results.map(Vec::into_iter);
    for ask in batch {
        let mine = match &mut results {
            Ok(results) => Ok(match results.next() {
                Some(1) => Applied::Now,
                Some(2) => Applied::Before,
                Some(3) => Applied::Leaves,
                _ => Applied::Stale,
            }),
            Err(error) => Err(error.clone()),
        };
        // The worker of a caller that went away reports again, and is told that it is done.
        drop(ask.answer.send(mine));
    }
}

/// Reports attempts; results in order.
pub(super) async fn complete(
    core: &Core,
    completer: &Completer,
    batch: Vec<Completion>,
) -> Vec<Result<Completed, StoreError>> {
    let asks = batch.into_iter().map(|completion| async {
        let report = Report::new(completion, &core.settings.instance)?;
        send(completer, report).await.map(Completed::from)
    });
    futures_util::future::join_all(asks).await
}

/// Sends one report.
pub(super) async fn send(completer: &Completer, report: Report) -> Result<Applied, StoreError> {
    let weight = report.weight();
    completer.ask(report, weight).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_outcome_of_an_address_counts() {
        let outcome = |address: &str, kind: OutcomeKind| RecipientOutcome {
            address: address.to_owned(),
            kind: kind.into(),
            ..RecipientOutcome::default()
        };
        let outcomes = [
            outcome("a@x", OutcomeKind::Deferred),
            outcome("b@x", OutcomeKind::Failed),
            outcome("a@x", OutcomeKind::Delivered),
        ];
        let first = first_of_each(&outcomes);
        assert_eq!(first.len(), 2);
        assert_eq!(first[0].kind(), OutcomeKind::Deferred);
    }
}
