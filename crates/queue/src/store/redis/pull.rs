//! Taking due deliveries under leases.

use std::collections::HashMap;
use std::sync::Arc;

use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::{Attempt, LeasedDelivery, leased_delivery::Disposition};
use prost::Message as _;
use redis::Value;

use super::answer::{bytes, items, required};
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

/// Deliveries of one call.
pub(super) const MOST: usize = 500;
/// Requests of one batch.
const BATCH: usize = 64;

pub(super) fn start(core: Arc<Core>) -> Puller {
    let state = Arc::new(tokio::sync::Mutex::new(Lost {
        last: u64::from(rand::random::<u32>()) << 20,
        pulls: HashMap::new(),
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
}

impl Lost {
    /// A number that no pull of this process had. Chance tells it from other processes' numbers,
    /// should one take over a lease.
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
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
                most: most.min(MOST),
                number: again.unwrap_or_else(|| lost.number()),
                again: again.is_some(),
            }
        })
        .collect();
    let mut answer = run(core, &pulls).await;
    if let Err(StoreError::Unavailable(_)) = answer {
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
    for (ask, pull) in batch.into_iter().zip(pulls) {
        let pulled = now.clone().and_then(|now| match answers.next() {
            Some(Value::Array(rows)) => Ok(Some(deliveries(core, pull.token, now, rows))),
            Some(Value::Int(_)) => Ok(None),
            _ => Err(malformed("pull")),
        });
        if ask.answer.send(pulled).is_err() {
            lost.pulls.insert(pull.token, pull.number);
        }
    }
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
    let answer = core.link.run(&core.scripts.pull, &cmd, Repeat::Never).await;
    answer.and_then(|value| items(value, "pull"))
}

/// Decodes rows. One that cannot be read is left out and told of: it stays leased and comes up again
/// when the lease ends, and the others are not held up by it.
fn deliveries(core: &Core, token: u64, now_us: u64, rows: Vec<Value>) -> Vec<LeasedDelivery> {
    rows.into_iter()
        .filter_map(|row| match delivery(core, token, now_us, row) {
            Ok(delivery) => Some(delivery),
            Err(error) => {
                tracing::error!(%error, token, "a delivery cannot be read");
                None
            }
        })
        .collect()
}

fn delivery(
    core: &Core,
    token: u64,
    now_us: u64,
    row: Value,
) -> Result<LeasedDelivery, StoreError> {
    let mut fields = items(row, "a delivery")?.into_iter();
    let id: DeliveryId = required(fields.next(), "a delivery's id")?;
    let due_us: u64 = required(fields.next(), "a due time")?;
    let record = bytes(fields.next(), "a message")?.ok_or_else(|| malformed("a message"))?;
    let inline = bytes(fields.next(), "a body")?;
    let accepted_us: u64 = required(fields.next(), "the time of acceptance")?;
    let open =
        bytes(fields.next(), "the recipients")?.ok_or_else(|| malformed("the recipients"))?;
    let progress = Progress::parse(bytes(fields.next(), "the attempts")?.as_deref())?;
    let kept = bytes(fields.next(), "the outcomes")?.unwrap_or_default();

    let open = Open::parse(&open)?;
    let kept = Attempt::decode(kept).map_err(|_| malformed("the outcomes"))?;
    let expires_us = accepted_us.saturating_add(core.lifetime_us());
    let disposition = if progress.bounce {
        Disposition::Bounce
    } else if now_us >= expires_us {
        Disposition::Expired
    } else {
        Disposition::Attempt
    };
    Ok(LeasedDelivery {
        delivery_id: id.to_string(),
        token,
        disposition: disposition.into(),
        attempt: progress.attempts + 1,
        accepted_us,
        expires_us,
        last_outcomes: open.last_outcomes(&kept.outcomes),
        due_us,
        ..message::leased(message::decode_record(record, inline)?, &open)
    })
}
