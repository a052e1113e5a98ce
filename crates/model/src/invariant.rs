//! What holds at any time, whatever happened: pure predicates on what a store says of itself. Each
//! returns what is wrong.

use std::collections::{BTreeMap, HashSet};

use postrider_protocol::queue_v1::delivery_status::State;
use postrider_protocol::queue_v1::{DeliveryStatus, Journey, StatsResponse, journey_event};

/// What is wrong, if anything is.
pub type Verdict = Result<(), String>;

fn require(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// Nobody vanishes: every accepted recipient is open or has ended in exactly one way.
/// # Errors
/// It does not hold.
pub fn counts_add_up(stats: &StatsResponse) -> Verdict {
    let ended = stats.delivered + stats.failed + stats.removed;
    require(stats.accepted == stats.open + ended, || {
        format!(
            "{} accepted, but {} open and {ended} ended",
            stats.accepted, stats.open
        )
    })
}

/// The counts are those of the deliveries that are there.
/// # Errors
/// It does not hold.
pub fn counts_are_true(stats: &StatsResponse, all: &[DeliveryStatus]) -> Verdict {
    let count = |state: State| all.iter().filter(|status| status.state() == state).count() as u64;
    let messages: HashSet<&str> = all.iter().map(|status| status.queue_id.as_str()).collect();
    let open: usize = all.iter().map(|status| status.recipients.len()).sum();
    let told = (
        stats.waiting,
        stats.leased,
        stats.held,
        stats.messages,
        stats.open,
    );
    let found = (
        count(State::Waiting) + count(State::Suspended),
        count(State::Leased),
        count(State::Held),
        messages.len() as u64,
        open as u64,
    );
    require(told == found, || {
        format!("waiting, leased, held, messages, open: told {told:?}, found {found:?}")
    })
}

/// No destination has more slots in use than it has.
/// # Errors
/// It does not hold.
pub fn slots_are_kept(stats: &StatsResponse) -> Verdict {
    stats.destinations.iter().try_for_each(|destination| {
        require(destination.slots_in_use <= destination.slots, || {
            format!("{destination:?} has too many slots in use")
        })
    })
}

/// Every delivery is there once, in the order of ids, with somebody left to deliver to; a leased one
/// names its holder.
/// # Errors
/// It does not hold.
pub fn deliveries_are_sound(all: &[DeliveryStatus]) -> Verdict {
    let mut last = None;
    for status in all {
        let id: postrider_protocol::DeliveryId = status
            .delivery_id
            .parse()
            .map_err(|_| format!("{} is no delivery id", status.delivery_id))?;
        require(last < Some(id), || {
            format!("{id} is out of order, or there twice")
        })?;
        last = Some(id);
        require(!status.recipients.is_empty(), || {
            format!("{id} has nobody left")
        })?;
        require(
            (status.state() == State::Leased) != status.worker.is_empty(),
            || format!("{id} is {:?} by {:?}", status.state(), status.worker),
        )?;
    }
    Ok(())
}

/// Tokens only grow.
/// # Errors
/// It does not hold.
pub fn token_is_new(last: u64, token: u64) -> Verdict {
    require(token > last, || format!("token {token} after {last}"))
}

/// At most one live lease a worker and destination.
/// # Errors
/// It does not hold.
pub fn one_lease_each<'a>(leases: impl Iterator<Item = (&'a str, &'a str)>) -> Verdict {
    let mut seen = HashSet::new();
    for lease in leases {
        require(seen.insert(lease), || format!("{lease:?} has two leases"))?;
    }
    Ok(())
}

/// No DSN is announced twice, and time does not run backwards.
/// # Errors
/// It does not hold.
pub fn journey_is_sound(journey: &Journey) -> Verdict {
    let mut dsn = BTreeMap::new();
    let mut last = 0;
    for event in &journey.events {
        require(event.time_us >= last, || {
            format!("journey of {} runs backwards", journey.queue_id)
        })?;
        last = event.time_us;
        if let Some(journey_event::What::Notice(notice)) = &event.what
            && !notice.dsn_queue_id.is_empty()
        {
            let times = dsn.entry(notice.dsn_queue_id.as_str()).or_insert(0);
            *times += 1;
            require(*times == 1, || {
                format!("DSN {} was sent twice", notice.dsn_queue_id)
            })?;
        }
    }
    Ok(())
}
