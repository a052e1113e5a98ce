//! Accepting messages.

use std::sync::Arc;

use postrider_protocol::queue_v1::NewMessage;
use redis::Cmd;

use super::core::Core;
use super::gather::{Asked, Gather};
use super::message::Packed;
use super::{answer, content, core};
use crate::store::{Enqueued, StoreError};

/// One caller's messages, and their results.
type Results = Result<Vec<Result<Enqueued, StoreError>>, StoreError>;
type Ask = Asked<Vec<Packed>, Results>;
pub(super) type Enqueuer = Gather<Vec<Packed>, Results>;

/// Messages of one caller that travel together.
const PIECE: usize = 64;

pub(super) fn start(core: Arc<Core>) -> Enqueuer {
    Gather::start(core::BATCH_BYTES, move |batch| {
        let core = core.clone();
        async move { carry_out(&core, batch).await }
    })
}

async fn carry_out(core: &Core, batch: Vec<Ask>) {
    let messages: Vec<&Packed> = batch.iter().flat_map(|ask| &ask.what).collect();
    let results = accept(core, &messages).await;
    let mut results = results.map(Vec::into_iter);
    for ask in batch {
        let mine = match &mut results {
            Ok(results) => Ok(ask
                .what
                .into_iter()
                .zip(results)
                .map(|(message, result)| enqueued(core, message, result))
                .collect()),
            Err(error) => Err(error.clone()),
        };
        // A caller that went away asks again with the same ids, or never.
        drop(ask.answer.send(mine));
    }
}

/// What the script says of each message whose content was not written.
const NO_CONTENT: i64 = 2;

async fn accept(core: &Core, messages: &[&Packed]) -> Result<Vec<i64>, StoreError> {
    let contents = messages
        .iter()
        .map(|message| (message.id, &message.content));
    let mut results = run(core, messages, [content::write_all(core, contents)]).await?;
    // One of them was known, so none was written: those that are new go one by one.
    let left = results.iter_mut().zip(messages);
    let (places, new): (Vec<&mut i64>, Vec<&Packed>) =
        left.filter(|(result, _)| **result == NO_CONTENT).unzip();
    if !new.is_empty() {
        let contents = new
            .iter()
            .map(|message| content::write(core, message.id, &message.content));
        let contents: Vec<Cmd> = contents.collect();
        // The caller of one that was known hears of the same error, and must not take it for refused.
        let answers = run(core, &new, contents).await;
        let answers = answers.map_err(StoreError::after_a_try)?;
        for (place, result) in places.into_iter().zip(answers) {
            *place = result;
        }
    }
    Ok(results)
}

async fn run(
    core: &Core,
    messages: &[&Packed],
    contents: impl IntoIterator<Item = Cmd>,
) -> Result<Vec<i64>, StoreError> {
    let mut cmd = core.call(&core.scripts.enqueue);
    cmd.arg(messages.len());
    for message in messages {
        message.add_to(&mut cmd);
    }
    let commands = contents.into_iter().chain([cmd]);
    let answer = core.safe.run_last(&core.scripts.enqueue, commands).await?;
    answer::numbers(answer, messages.len(), "enqueue")
}

pub(super) fn enqueued(core: &Core, message: Packed, result: i64) -> Result<Enqueued, StoreError> {
    match result {
        1 => {
            let deliveries = message.deliveries();
            core.recent.put(message.id, message.message, deliveries);
            Ok(Enqueued::Accepted)
        }
        0 => Ok(Enqueued::AlreadyAccepted),
        _ => Err(StoreError::Unavailable(
            "Redis did not take the content".to_owned(),
        )),
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
    let (places, packed): (Vec<usize>, Vec<Packed>) = packed.into_iter().unzip();
    for (place, answer) in places.into_iter().zip(send(enqueuer, packed).await) {
        results[place] = answer;
    }
    results
}

/// Sends packed messages in pieces; results in order.
pub(super) async fn send(
    enqueuer: &Enqueuer,
    packed: Vec<Packed>,
) -> Vec<Result<Enqueued, StoreError>> {
    let mut results = Vec::with_capacity(packed.len());
    let mut packed = packed.into_iter().peekable();
    while packed.peek().is_some() {
        let piece: Vec<Packed> = packed.by_ref().take(PIECE).collect();
        let number = piece.len();
        let weight = piece.iter().map(Packed::weight).sum();
        match enqueuer.ask(piece, weight).await.and_then(|answer| answer) {
            Ok(answers) => results.extend(answers),
            Err(error) => results.extend((0..number).map(|_| Err(error.clone()))),
        }
    }
    results
}
