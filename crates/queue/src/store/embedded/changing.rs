//! Recording that something other than an attempt happened to a delivery.

use bytes::Bytes;
use postrider_protocol::DeliveryId;

use super::core::{Core, Shared};
use super::frame::{Draft, Kind};
use super::message::Pending;
use super::record::{Change, Changed};
use crate::policy::Unknown;
use crate::store::StoreError;

/// A change of one delivery with the notice that tells of it.
pub(super) fn changed(
    shared: &Shared,
    delivery: DeliveryId,
    change: Change,
    text: &str,
    operator: &str,
    at_us: u64,
) -> Changed {
    Changed {
        id: delivery.queue_id.into(),
        change: change as i32,
        deliveries: vec![delivery.number],
        at_us,
        events: vec![shared.notice(at_us, text.to_owned(), operator)],
        until_us: 0,
        to: String::new(),
    }
}

/// A delivery's lease is over and the outcome unknown. The policy of its destination may be to
/// hold it then.
pub(super) fn lapsed(
    shared: &Shared,
    core: &Core,
    delivery: DeliveryId,
    text: &str,
    at_us: u64,
) -> Changed {
    let mut lapse = changed(shared, delivery, Change::Lapse, text, "", at_us);
    if holds_unknown(shared, core, delivery) {
        lapse.change = Change::LapseHeld as i32;
        lapse.events.push(held_notice(shared, at_us));
    }
    lapse
}

/// Whether a delivery is held if the outcome of its attempt is unknown. What an operator wants of
/// it meanwhile goes before, except where to send it.
pub(super) fn holds_unknown(shared: &Shared, core: &Core, delivery: DeliveryId) -> bool {
    let wish = core.state.pending.get(&delivery);
    let free = matches!(wish, None | Some(Pending::Reroute(_)));
    let policies = &shared.settings.policies;
    free && core
        .state
        .destination_of(delivery)
        .is_some_and(|destination| policies.of(destination.as_str()).unknown == Unknown::Hold)
}

pub(super) fn held_notice(
    shared: &Shared,
    at_us: u64,
) -> postrider_protocol::queue_v1::JourneyEvent {
    shared.notice(at_us, HELD_UNKNOWN.to_owned(), "")
}

/// Why a policy holds a delivery.
pub(super) const HELD_UNKNOWN: &str =
    "held, because the outcome is unknown: it may have been delivered";

/// The record of a change.
pub(super) fn draft(changed: &Changed) -> Draft {
    Draft::new(Kind::Changed, changed, Bytes::new())
}

/// Stages the record of a change, and makes it.
pub(super) fn record(
    core: &mut Core,
    delivery: DeliveryId,
    changed: &Changed,
    now_us: u64,
) -> Result<(), StoreError> {
    let draft = draft(changed);
    core.make_room(draft.len(), now_us)?;
    let at = core.stage(draft, delivery.queue_id);
    core.state.apply(delivery, changed, at);
    Ok(())
}
