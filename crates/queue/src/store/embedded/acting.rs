//! What operators do to deliveries.

use postrider_protocol::queue_v1::Filter;
use postrider_protocol::{DeliveryId, QueueId};

use super::EmbeddedStore;
use super::core::{Core, Shared};
use super::leasing::change;
use super::message::{DeliveryState, Pending};
use super::record::Change;
use crate::store::{Act, Acted, By, StoreError, Wake};

/// Deliveries that are changed before the lock is given up for a moment.
const STRIDE: usize = 256;
/// Messages that are named in the answer.
const SAMPLE: usize = 100;

impl EmbeddedStore {
    /// See [`crate::store::Store::act`]. Waits for the disk: to be called where that is allowed.
    pub(super) fn act_on(
        shared: &Shared,
        act: Act,
        filter: &Filter,
        by: &By,
        preview: bool,
    ) -> Result<Acted, StoreError> {
        let mut matched = Vec::new();
        Self::each_match(shared, filter, |id| matched.push(id))?;
        let mut acted = Acted {
            matched: matched.len() as u64,
            sample: sample(&matched),
            ..Acted::default()
        };
        if preview {
            return Ok(acted);
        }
        for stride in matched.chunks(STRIDE) {
            let mut core = shared.lock();
            let now_us = shared.now_us();
            for id in stride {
                if changes(&core, *id, act, now_us) {
                    apply(shared, &mut core, *id, act, by, now_us)?;
                    acted.changed += 1;
                }
            }
        }
        if acted.changed > 0 {
            let commit = shared.commit(&mut shared.lock());
            commit.wait()?;
        }
        Ok(acted)
    }
}

fn sample(matched: &[DeliveryId]) -> Vec<QueueId> {
    let mut sample: Vec<QueueId> = Vec::new();
    for id in matched {
        if sample.last() != Some(&id.queue_id) {
            if sample.len() == SAMPLE {
                break;
            }
            sample.push(id.queue_id);
        }
    }
    sample
}

/// Whether the act would change the delivery as it is now.
fn changes(core: &Core, id: DeliveryId, act: Act, now_us: u64) -> bool {
    let Some(delivery) = core.state.delivery(id) else {
        return false;
    };
    match (act, delivery.state) {
        (_, DeliveryState::Done) => false,
        (Act::Retry, state) => state == DeliveryState::Waiting && delivery.due_us > now_us,
        (Act::Hold, DeliveryState::Leased) => delivery.pending != Pending::Hold,
        (Act::Hold, state) => state != DeliveryState::Held,
        (Act::Release, DeliveryState::Leased) => delivery.pending == Pending::Hold,
        (Act::Release, state) => state == DeliveryState::Held,
        (Act::Remove | Act::Bounce, _) => true,
    }
}

fn apply(
    shared: &Shared,
    core: &mut Core,
    id: DeliveryId,
    act: Act,
    by: &By,
    now_us: u64,
) -> Result<(), StoreError> {
    let destination = core.state.destination_of(id).cloned();
    let (kind, word) = match act {
        Act::Retry => (Change::Retry, "retried now"),
        Act::Hold => (Change::Hold, "held"),
        Act::Release => (Change::Release, "released"),
        Act::Remove => (Change::Remove, "removed"),
        Act::Bounce => (Change::Bounce, "bounced"),
    };
    let mut text = match &destination {
        Some(destination) => format!("delivery to {destination} {word}"),
        None => format!("delivery {word}"),
    };
    if !by.reason.is_empty() {
        text.push_str(": ");
        text.push_str(&by.reason);
    }
    let draft = change(shared, id, kind, &text, &by.operator, now_us);
    core.make_room(draft.len(), now_us)?;
    let at = core.stage(draft, id.queue_id);
    core.state.apply(id, kind, at, now_us);
    tracing::info!(queue_id = %id.queue_id, delivery = %id, operator = by.operator, "{text}");
    let wakes = matches!(act, Act::Retry | Act::Release | Act::Bounce);
    if let (true, Some(destination)) = (wakes, destination) {
        shared.wake(Wake::Destination(destination));
    }
    shared.wake_journey(id.queue_id);
    Ok(())
}
