//! What operators do to deliveries.

use postrider_protocol::DeliveryId;

use super::EmbeddedStore;
use super::changing;
use super::core::{Core, Shared};
use super::leasing;
use super::message::{DeliveryState, Pending};
use super::record::Change;
use crate::store::{Act, By, StoreError, Wake};

/// Deliveries that are changed before the lock is given up for a moment.
const STRIDE: usize = 256;

impl EmbeddedStore {
    /// See [`crate::store::Store::act`]. Waits for the disk: to be called where that is allowed.
    pub(super) fn act_on(
        shared: &Shared,
        act: &Act,
        on: &[DeliveryId],
        by: &By,
    ) -> Result<Vec<bool>, StoreError> {
        let mut changed = Vec::with_capacity(on.len());
        for stride in on.chunks(STRIDE) {
            let mut core = shared.lock();
            let now_us = shared.now_us();
            leasing::pass_time(shared, &mut core, now_us);
            for id in stride {
                let does = changes(&core, *id, act, now_us);
                if does {
                    apply(shared, &mut core, *id, act, by, now_us)?;
                }
                changed.push(does);
            }
        }
        if changed.contains(&true) {
            let commit = shared.commit(&mut shared.lock());
            commit.wait()?;
        }
        Ok(changed)
    }
}

/// Whether the act would change the delivery as it is now.
fn changes(core: &Core, id: DeliveryId, act: &Act, now_us: u64) -> bool {
    let Some(delivery) = core.state.delivery(id) else {
        return false;
    };
    let wish = core.state.pending.get(&id);
    match (act, delivery.state) {
        (_, DeliveryState::Done) => false,
        (Act::Retry, state) => state == DeliveryState::Waiting && delivery.due_us > now_us,
        (Act::Hold { until_us }, DeliveryState::Leased) => wish != Some(&Pending::Hold(*until_us)),
        (Act::Hold { until_us }, DeliveryState::Held) => core.state.holds.end_of(id) != *until_us,
        (Act::Hold { .. }, DeliveryState::Waiting) => true,
        (Act::Release, DeliveryState::Leased) => matches!(wish, Some(Pending::Hold(_))),
        (Act::Release, state) => state == DeliveryState::Held,
        (Act::Remove | Act::Bounce, _) => true,
        (Act::Reroute { to }, _) => {
            let so_far = match wish {
                Some(Pending::Reroute(to)) => Some(to),
                _ => core.state.schedule.name(delivery.destination),
            };
            so_far != Some(to)
        }
    }
}

fn apply(
    shared: &Shared,
    core: &mut Core,
    id: DeliveryId,
    act: &Act,
    by: &By,
    now_us: u64,
) -> Result<(), StoreError> {
    let destination = core.state.destination_of(id).cloned();
    let (kind, word) = match act {
        Act::Retry => (Change::Retry, "retried now".to_owned()),
        Act::Hold { until_us: None } => (Change::Hold, "held".to_owned()),
        Act::Hold {
            until_us: Some(until_us),
        } => (Change::Hold, format!("held until {}", utc(*until_us))),
        Act::Release => (Change::Release, "released".to_owned()),
        Act::Remove => (Change::Remove, "removed".to_owned()),
        Act::Bounce => (Change::Bounce, "bounced".to_owned()),
        Act::Reroute { to } => (Change::Reroute, format!("goes to {to} from now on")),
    };
    let mut text = match &destination {
        Some(destination) => format!("delivery to {destination} {word}"),
        None => format!("delivery {word}"),
    };
    if !by.reason.is_empty() {
        text.push_str(": ");
        text.push_str(&by.reason);
    }
    let mut changed = changing::changed(shared, id, kind, &text, &by.operator, now_us);
    let mut wakes = match act {
        Act::Retry | Act::Release | Act::Bounce => destination,
        Act::Hold { .. } | Act::Remove | Act::Reroute { .. } => None,
    };
    match act {
        // A hold until the beginning of time is none: 0 is stored for one without an end.
        Act::Hold { until_us } => changed.until_us = until_us.map_or(0, |until_us| until_us.max(1)),
        Act::Reroute { to } => {
            changed.to = to.to_string();
            wakes = Some(to.clone());
        }
        Act::Retry | Act::Release | Act::Remove | Act::Bounce => {}
    }
    changing::record(core, id, &changed, now_us)?;
    tracing::info!(queue_id = %id.queue_id, delivery = %id, operator = by.operator, "{text}");
    if let Some(destination) = wakes {
        shared.wake(Wake::Destination(destination));
    }
    if changed.until_us > 0 {
        shared.wake_timer(core, changed.until_us);
    }
    shared.wake_journey(id.queue_id);
    Ok(())
}

/// A time as operators read it.
fn utc(at_us: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_micros(at_us));
    at.map_or_else(String::new, |at| {
        humantime::format_rfc3339_seconds(at).to_string()
    })
}
