//! Accepting messages.

use std::sync::Arc;

use postrider_protocol::queue_v1::NewMessage;

use super::core::Core;
use super::gather::{Asked, Gather};
use super::link::Repeat;
use super::message::Packed;
use super::{answer, core};
use crate::store::{Enqueued, StoreError};

/// One caller's messages, and their results.
type Ask = Asked<Vec<Packed>, Result<Vec<Enqueued>, StoreError>>;
pub(super) type Enqueuer = Gather<Vec<Packed>, Result<Vec<Enqueued>, StoreError>>;

/// Messages of one caller that travel together.
const PIECE: usize = 64;

pub(super) fn start(core: Arc<Core>) -> Enqueuer {
    Gather::start(core::BATCH_BYTES, move |batch| {
        let core = core.clone();
        async move { carry_out(&core, batch).await }
    })
}

async fn carry_out(core: &Core, batch: Vec<Ask>) {
    let total: usize = batch.iter().map(|ask| ask.what.len()).sum();
    let mut cmd = core.call(&core.scripts.enqueue);
    cmd.arg(total);
    for message in batch.iter().flat_map(|ask| &ask.what) {
        message.add_to(&mut cmd);
    }
    let results = core
        .safe
        .run(&core.scripts.enqueue, &cmd, Repeat::Safe)
        .await
        .and_then(|value| answer::numbers(value, total, "enqueue"));
    let mut results = results.map(Vec::into_iter);
    for ask in batch {
        let mine = match &mut results {
            Ok(results) => Ok(results
                .by_ref()
                .take(ask.what.len())
                .map(|new| match new {
                    1 => Enqueued::Accepted,
                    _ => Enqueued::AlreadyAccepted,
                })
                .collect()),
            Err(error) => Err(error.clone()),
        };
        // A caller that went away asks again with the same ids, or never.
        drop(ask.answer.send(mine));
    }
}

/// Packs the messages, sends them in pieces, and puts the results in the messages' order.
pub(super) async fn enqueue(
    core: &Core,
    enqueuer: &Enqueuer,
    messages: Vec<NewMessage>,
) -> Vec<Result<Enqueued, StoreError>> {
    let mut results = Vec::with_capacity(messages.len());
    let mut packed = Vec::new();
    for message in messages {
        match Packed::new(message, &core.settings.instance) {
            Ok(message) => {
                packed.push((results.len(), message));
                results.push(Err(StoreError::Unavailable(String::new())));
            }
            Err(error) => results.push(Err(error)),
        }
    }
    let mut packed = packed.into_iter().peekable();
    while packed.peek().is_some() {
        let (places, piece): (Vec<usize>, Vec<Packed>) = packed.by_ref().take(PIECE).unzip();
        let weight = piece.iter().map(Packed::weight).sum();
        let answer = enqueuer.ask(piece, weight).await.and_then(|answer| answer);
        match answer {
            Ok(answers) => {
                for (place, answer) in places.into_iter().zip(answers) {
                    results[place] = Ok(answer);
                }
            }
            Err(error) => {
                for place in places {
                    results[place] = Err(error.clone());
                }
            }
        }
    }
    results
}
