//! Taking due deliveries under leases.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Attempt, LeasedDelivery, NewMessage, leased_delivery::Disposition,
};
use postrider_protocol::{DeliveryId, QueueId};
use prost::Message as _;
use redis::{Cmd, Value, cmd};

use super::answer::{bytes, items, parsed, required, text};
use super::content;
use super::core::{self, Core};
use super::failure::malformed;
use super::gather::{Asked, Gather};
use super::link::Repeat;
use super::message::{self, Open, Progress};
use crate::store::StoreError;

/// `None` if the lease is stale.
pub(super) type Pulled = Option<Vec<LeasedDelivery>>;
type Ask = Asked<(u64, usize), Result<Pulled, StoreError>>;
pub(super) type Puller = Gather<(u64, usize), Result<Pulled, StoreError>>;

/// Requests of one batch.
const BATCH: usize = 64;
/// Lost pulls that are kept before it is looked which of them are of use.
const ENOUGH: usize = 64;

pub(super) fn start(core: Arc<Core>) -> Puller {
    let state = Arc::new(tokio::sync::Mutex::new(Lost {
        last: u64::from(rand::random::<u32>()) << 20,
        pulls: HashMap::new(),
        enough: ENOUGH,
    }));
    Gather::start(BATCH, move |batch| {
        let (core, state) = (core.clone(), state.clone());
        async move { carry_out(&core, &mut *state.lock().await, batch).await }
    })
}

/// Pulls whose deliveries nobody got, since the answer was lost or the caller gone: token and
/// number. They are leased nevertheless; the next pull under the lease asks for them by the number.
struct Lost {
    last: u64,
    pulls: HashMap<u64, u64>,
    /// With so many it is looked which leases have ended: nobody pulls under these again.
    enough: usize,
}

impl Lost {
    /// A number that no pull of this process had. Chance tells it from other processes' numbers,
    /// should one take over a lease.
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Forgets pulls under leases that have ended. While Redis does not tell, nothing is forgotten.
    async fn forget_ended(&mut self, core: &Core) {
        let tokens: Vec<u64> = self.pulls.keys().copied().collect();
        let until = tokens.iter().map(|token| {
            let mut read = cmd("ZSCORE");
            read.arg(core.key("ends")).arg(*token);
            read
        });
        let until: Vec<Cmd> = until.collect();
        if let Ok(until) = core.work.query_all(&until).await {
            let ended = tokens.into_iter().zip(until);
            self.forget(ended.filter_map(|(token, until)| (until == Value::Nil).then_some(token)));
        }
    }

    fn forget(&mut self, ended: impl Iterator<Item = u64>) {
        for token in ended {
            self.pulls.remove(&token);
        }
        // So a look at many is paid by as many new ones.
        self.enough = 2 * self.pulls.len() + ENOUGH;
    }
}

async fn carry_out(core: &Core, lost: &mut Lost, batch: Vec<Ask>) {
    let mut pulls: Vec<Pull> = batch
        .iter()
        .map(|ask| {
            let (token, most) = ask.what;
            let again = lost.pulls.remove(&token);
            Pull {
                token,
                most,
                number: again.unwrap_or_else(|| lost.number()),
                again: again.is_some(),
            }
        })
        .collect();
    let mut answer = run(core, &pulls).await;
    if answer.as_ref().is_err_and(StoreError::is_passing) {
        // What was taken, if anything, is asked for once more before the callers hear of it.
        for pull in &mut pulls {
            pull.again = true;
        }
        answer = run(core, &pulls).await;
    }
    let mut answers = match answer {
        Ok(answers) => answers.into_iter(),
        Err(error) => {
            for (ask, pull) in batch.into_iter().zip(pulls) {
                lost.pulls.insert(pull.token, pull.number);
                drop(ask.answer.send(Err(error.clone())));
            }
            return;
        }
    };
    let now: Result<u64, StoreError> = required(answers.next(), "the time");
    let taken: Vec<Result<Option<Vec<Taken>>, StoreError>> = pulls
        .iter()
        .map(|pull| match answers.next() {
            Some(Value::Array(rows)) => Ok(Some(rows_of(pull.token, rows))),
            Some(Value::Int(_)) => Ok(None),
            _ => Err(malformed("pull")),
        })
        .collect();
    let ids: Vec<QueueId> = taken
        .iter()
        .flatten()
        .flatten()
        .flatten()
        .map(|taken| taken.id.queue_id)
        .collect();
    let mut messages = messages(core, &ids).await.map(Vec::into_iter);
    for ((ask, pull), taken) in batch.into_iter().zip(pulls).zip(taken) {
        let pulled = match (taken, &now, &mut messages) {
            (Ok(None), ..) => Ok(None),
            // What is leased is asked for again by the pull's number.
            (Err(error), ..) => Err(error),
            (_, Err(error), _) => Err(error.clone()),
            (_, _, Err(error)) => Err(error.clone()),
            (Ok(Some(taken)), Ok(now), Ok(messages)) => Ok(Some(
                taken
                    .into_iter()
                    .zip(messages)
                    .map(|(taken, message)| taken.leased(core, pull.token, *now, message))
                    .collect(),
            )),
        };
        let failed = pulled.is_err();
        if ask.answer.send(pulled).is_err() || failed {
            lost.pulls.insert(pull.token, pull.number);
        }
    }
    if lost.pulls.len() >= lost.enough {
        lost.forget_ended(core).await;
    }
}

/// The messages, in order: out of this process' memory, or from Redis. `None` for what is missing.
async fn messages(
    core: &Core,
    ids: &[QueueId],
) -> Result<Vec<Option<Arc<NewMessage>>>, StoreError> {
    let mut messages: Vec<_> = ids.iter().map(|id| core.recent.take(*id)).collect();
    let missing = || {
        messages
            .iter()
            .zip(ids)
            .filter(|(known, _)| known.is_none())
    };
    let missing: Vec<QueueId> = missing().map(|(_, id)| *id).collect();
    let mut read = content::read(core, &missing).await?.into_iter();
    for message in messages.iter_mut().filter(|known| known.is_none()) {
        *message = read.next().flatten().map(Arc::new);
    }
    Ok(messages)
}

/// One request to the script.
struct Pull {
    token: u64,
    most: usize,
    number: u64,
    again: bool,
}

async fn run(core: &Core, pulls: &[Pull]) -> Result<Vec<Value>, StoreError> {
    let mut cmd = core.call(&core.scripts.pull);
    cmd.arg(core::BATCH_BYTES).arg(pulls.len());
    for pull in pulls {
        cmd.arg(pull.token)
            .arg(pull.most)
            .arg(pull.number)
            .arg(u8::from(pull.again));
    }
    let answer = core.work.run(&core.scripts.pull, &cmd, Repeat::Never).await;
    answer.and_then(|value| items(value, "pull"))
}

/// Reads rows. One that cannot be read is left out and told of: it stays leased and comes up again
/// when the lease ends, and the others are not held up by it.
fn rows_of(token: u64, rows: Vec<Value>) -> Vec<Taken> {
    rows.into_iter()
        .filter_map(|row| match Taken::new(row) {
            Ok(taken) => Some(taken),
            Err(error) => {
                tracing::error!(%error, token, "a delivery cannot be read");
                None
            }
        })
        .collect()
}

/// A delivery as the script hands it out.
struct Taken {
    id: DeliveryId,
    due_us: u64,
    accepted_us: u64,
    /// Time before which it was not to be attempted.
    release_us: u64,
    sender: String,
    open: Bytes,
    progress: Progress,
    kept: Attempt,
}

impl Taken {
    fn new(row: Value) -> Result<Self, StoreError> {
        let mut fields = items(row, "a delivery")?.into_iter();
        let id = required(fields.next(), "a delivery's id")?;
        let due_us = required(fields.next(), "a due time")?;
        let accepted_us = required(fields.next(), "the time of acceptance")?;
        let release_us = parsed(fields.next(), "the time of release")?.unwrap_or(0);
        let sender = text(fields.next(), "a sender")?.unwrap_or_default();
        let open =
            bytes(fields.next(), "the recipients")?.ok_or_else(|| malformed("the recipients"))?;
        // What cannot be parsed below is found out here.
        Open::parse(&open)?;
        let progress = Progress::parse(bytes(fields.next(), "the attempts")?.as_deref())?;
        let kept = bytes(fields.next(), "the outcomes")?.unwrap_or_default();
        Ok(Self {
            id,
            due_us,
            accepted_us,
            release_us,
            sender,
            open,
            progress,
            kept: Attempt::decode(kept).map_err(|_| malformed("the outcomes"))?,
        })
    }

    fn leased(
        self,
        core: &Core,
        token: u64,
        now_us: u64,
        message: Option<Arc<NewMessage>>,
    ) -> LeasedDelivery {
        let open = Open::parse(&self.open).unwrap_or_default();
        let mut number = self.id.number;
        let message = message.unwrap_or_else(|| {
            let queue_id = self.id.queue_id;
            tracing::error!(%queue_id, "the content of a queued message is missing or broken");
            number = 0;
            Arc::new(message::without_content(queue_id, self.sender, &open))
        });
        let policy = core.policy(open.destination);
        let begins_us = self.accepted_us.max(self.release_us);
        let expires_us = begins_us.saturating_add(core::micros(policy.lifetime));
        let disposition = if self.progress.bounce {
            Disposition::Bounce
        } else if now_us >= expires_us {
            Disposition::Expired
        } else {
            Disposition::Attempt
        };
        let is_late = policy
            .delay_warning
            .is_some_and(|after| now_us >= begins_us.saturating_add(core::micros(after)));
        LeasedDelivery {
            delivery_id: self.id.to_string(),
            token,
            disposition: disposition.into(),
            attempt: self.progress.attempts + 1,
            accepted_us: self.accepted_us,
            expires_us,
            last_outcomes: open.last_outcomes(&self.kept.outcomes),
            due_us: self.due_us,
            delay_warning_due: disposition == Disposition::Attempt
                && is_late
                && !self.progress.warned,
            ..message::leased(message, number, &open)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_under_leases_that_have_ended_are_forgotten() {
        let mut lost = Lost {
            last: 0,
            pulls: (0..1000).map(|token| (token, token)).collect(),
            enough: ENOUGH,
        };
        lost.forget((0..1000).filter(|token| token % 100 != 0));
        assert_eq!((lost.pulls.len(), lost.enough), (10, ENOUGH + 20));
        assert_eq!(lost.pulls.get(&900), Some(&900));
    }
}
