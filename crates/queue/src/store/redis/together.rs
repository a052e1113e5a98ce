//! Reading over all partitions, and what goes to all of them.
//!
//! What would lie if a partition were left out (lists, counts, what is known of a message) fails as
//! long as one is away.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::future::{join_all, try_join_all};
use postrider_protocol::queue_v1::{
    DeliveryStatus, DestinationStats, ExportedDelivery, ExportedMessage, Filter, Journey,
    ShowResponse, StatsResponse, Suspension,
};
use postrider_protocol::{DeliveryId, QueueId};

use super::admin::{self, Counted};
use super::failure::malformed;
use super::moves::{self, Leaving, settled};
use super::part::Part;
use super::partition::Partitions;
use super::{bodies, find, journey, rows, spread, suspension, transfer};
use crate::store::exported::Ended;
use crate::store::{Enqueued, Find, StoreError};

/// Destinations in counts.
const DESTINATIONS: usize = 50;

pub(super) async fn list(
    parts: &[Part],
    filter: &Filter,
    after: Option<DeliveryId>,
    limit: usize,
) -> Result<Vec<DeliveryStatus>, StoreError> {
    let lists = || {
        let lists = parts.iter();
        try_join_all(lists.map(|part| rows::list(&part.core, parts, filter, after, limit)))
    };
    let mut all: Vec<(Option<DeliveryId>, DeliveryStatus)> = settled(parts, lists)
        .await?
        .into_iter()
        .flatten()
        .map(|status| (status.delivery_id.parse().ok(), status))
        .collect();
    all.sort_by_key(|(id, _)| *id);
    Ok(all
        .into_iter()
        .map(|(_, status)| status)
        .take(limit)
        .collect())
}

pub(super) async fn show(parts: &[Part], id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
    let shown = || try_join_all(parts.iter().map(|part| rows::show(&part.core, parts, id)));
    let mut whole: Option<ShowResponse> = None;
    for part in settled(parts, shown).await?.into_iter().flatten() {
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.accepted_us = whole.accepted_us.min(part.accepted_us);
                whole.deliveries.extend(part.deliveries);
            }
        }
    }
    if let Some(whole) = &mut whole {
        let number = |status: &DeliveryStatus| status.delivery_id.parse::<DeliveryId>().ok();
        whole.deliveries.sort_by_key(number);
    }
    Ok(whole)
}

/// In every partition, or it fails; then it may be in some, and is made again under its id.
pub(super) async fn suspend(parts: &[Part], suspension: &Suspension) -> Result<(), StoreError> {
    let made = parts
        .iter()
        .map(|part| suspension::suspend(&part.core, suspension));
    try_join_all(made).await.map(drop)
}

pub(super) async fn resume(parts: &[Part], id: &str) -> Result<bool, StoreError> {
    let ended = parts.iter().map(|part| {
        part.hint.something_came();
        suspension::resume(&part.core, id)
    });
    let answers = try_join_all(ended).await?;
    Ok(answers.into_iter().any(|was_there| was_there))
}

pub(super) async fn suspensions(parts: &[Part]) -> Result<Vec<Suspension>, StoreError> {
    let all = parts.iter().map(|part| suspension::all(&part.core));
    let mut by_id = BTreeMap::new();
    for suspension in try_join_all(all).await?.into_iter().flatten() {
        by_id.insert((suspension.created_us, suspension.id.clone()), suspension);
    }
    Ok(by_id.into_values().collect())
}

pub(super) async fn journey(parts: &[Part], id: QueueId) -> Result<Option<Journey>, StoreError> {
    let told = || try_join_all(parts.iter().map(|part| journey::journey(&part.core, id)));
    let told = settled(parts, told).await?;
    Ok(merge(told.into_iter().flatten().collect()))
}

/// One journey of what parts of a message tell. Each part tells of the time before it was queued,
/// and that it was; once is enough.
fn merge(mut parts: Vec<Journey>) -> Option<Journey> {
    parts.sort_by_key(|part| part.events.first().map(|event| event.time_us));
    let mut parts = parts.into_iter();
    let mut whole = parts.next()?;
    for part in parts {
        whole.ended &= part.ended;
        let own = transfer::beginning(&part.events);
        whole.events.extend(part.events.into_iter().skip(own));
    }
    whole.events.sort_by_key(|event| event.time_us);
    Some(whole)
}

pub(super) async fn find(
    parts: &[Part],
    what: &Find,
    limit: usize,
) -> Result<Vec<QueueId>, StoreError> {
    let found = parts.iter().map(|part| find::find(&part.core, what, limit));
    let mut ids: Vec<QueueId> = try_join_all(found).await?.into_iter().flatten().collect();
    ids.sort_unstable_by(|one, other| other.cmp(one));
    ids.dedup();
    ids.truncate(limit);
    Ok(ids)
}

pub(super) async fn stats(parts: &[Part]) -> Result<StatsResponse, StoreError> {
    let counts = || async {
        let counts = try_join_all(parts.iter().map(|part| admin::stats(&part.core))).await?;
        let leaving = counts.iter().flat_map(|(_, leaving)| leaving);
        let leaving: Vec<Leaving> = leaving.map(|it| it.leaving.clone()).collect();
        let arrived = moves::arrived(parts, &leaving).await?;
        Ok((counts, arrived))
    };
    let (counts, arrived) = settled(parts, counts).await?;
    let mut all = StatsResponse::default();
    let mut destinations: BTreeMap<String, DestinationStats> = BTreeMap::new();
    for (mut one, leaving) in counts {
        for leaving in leaving {
            leave_out(&mut one, &leaving, arrived.contains(&leaving.leaving.id));
        }
        all.accepted += one.accepted;
        all.delivered += one.delivered;
        all.failed += one.failed;
        all.removed += one.removed;
        all.open += one.open;
        all.stale_completions += one.stale_completions;
        all.unknown_outcomes += one.unknown_outcomes;
        all.unknown_deliveries += one.unknown_deliveries;
        all.waiting += one.waiting;
        all.leased += one.leased;
        all.held += one.held;
        all.messages += one.messages;
        all.commits += one.commits;
        all.syncs += one.syncs;
        // Each is in all of them.
        all.suspensions = all.suspensions.max(one.suspensions);
        for destination in one.destinations {
            match destinations.entry(destination.destination.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(destination);
                }
                Entry::Occupied(mut entry) => {
                    entry.get_mut().waiting += destination.waiting;
                    entry.get_mut().slots_in_use += destination.slots_in_use;
                }
            }
        }
    }
    all.destinations.extend(destinations.into_values());
    let size = |of: &DestinationStats| std::cmp::Reverse(of.waiting);
    all.destinations.sort_by_key(size);
    all.destinations.truncate(DESTINATIONS);
    Ok(all)
}

/// Counts a delivery that leaves a partition as what it is; or not at all where it has arrived and counts
/// there. Until then it counts as waiting where it comes from.
fn leave_out(counts: &mut StatsResponse, leaving: &Counted, has_arrived: bool) {
    if has_arrived || leaving.held {
        counts.waiting = counts.waiting.saturating_sub(1);
        let mut destinations = counts.destinations.iter_mut();
        if let Some(to) = destinations.find(|to| to.destination == leaving.destination) {
            to.waiting = to.waiting.saturating_sub(1);
        }
    }
    if has_arrived {
        counts.accepted = counts.accepted.saturating_sub(leaving.recipients);
        counts.open = counts.open.saturating_sub(leaving.recipients);
        counts.unknown_deliveries = counts
            .unknown_deliveries
            .saturating_sub(leaving.unsure.into());
    } else if leaving.held {
        counts.held += 1;
    }
}

pub(super) async fn bodies_in_use(
    parts: &[Part],
    names: Vec<String>,
) -> Result<Vec<String>, StoreError> {
    settled(parts, || used_bodies(parts, &names)).await
}

/// Looks twice: a part that goes from an outbox to its partition while they are asked one after the
/// other may be in neither's answer, and no part goes twice.
async fn used_bodies(parts: &[Part], names: &[String]) -> Result<Vec<String>, StoreError> {
    let mut used: HashSet<String> = HashSet::new();
    for _ in 0..2 {
        let unused: Vec<String> = names
            .iter()
            .filter(|name| !used.contains(*name))
            .cloned()
            .collect();
        if unused.is_empty() {
            break;
        }
        let asked = parts
            .iter()
            .map(|part| bodies::in_use(&part.core, unused.clone()));
        used.extend(try_join_all(asked).await?.into_iter().flatten());
    }
    let names = names.iter().filter(|name| used.contains(*name));
    Ok(names.cloned().collect())
}

/// Bodies that have ended in one partition and are in use in none. What another one still uses is
/// forgotten here: it ends there as well.
pub(super) async fn ended_bodies(parts: &[Part], limit: usize) -> Result<Vec<String>, StoreError> {
    let asked = parts.iter().map(|part| bodies::ended(&part.core, limit));
    let mut ended: Vec<String> = try_join_all(asked).await?.into_iter().flatten().collect();
    ended.sort_unstable();
    ended.dedup();
    let used: HashSet<String> = bodies_in_use(parts, ended.clone())
        .await?
        .into_iter()
        .collect();
    if !used.is_empty() {
        forget_bodies(parts, used.iter().cloned().collect()).await?;
    }
    ended.retain(|name| !used.contains(name));
    ended.truncate(limit);
    Ok(ended)
}

pub(super) async fn forget_bodies(parts: &[Part], names: Vec<String>) -> Result<(), StoreError> {
    let asked = parts
        .iter()
        .map(|part| bodies::forget(&part.core, names.clone()));
    join_all(asked).await.into_iter().collect()
}

/// Messages whole, although their parts come from several partitions: none later than the last one of
/// a partition that has more.
pub(super) async fn export(
    parts: &[Part],
    after: Option<QueueId>,
    limit: usize,
) -> Result<Vec<ExportedMessage>, StoreError> {
    if after.is_none() {
        // What a dead process has left on its way is in no partition's rows.
        for from in 0..parts.len() {
            spread::empty(parts, from).await?;
        }
    }
    settled(parts, || pages(parts, after, limit)).await
}

async fn pages(
    parts: &[Part],
    after: Option<QueueId>,
    limit: usize,
) -> Result<Vec<ExportedMessage>, StoreError> {
    let pages = parts.iter().map(|part| page(parts, part, after, limit));
    let mut whole: BTreeMap<QueueId, ExportedMessage> = BTreeMap::new();
    let mut last: Option<QueueId> = None;
    for page in try_join_all(pages).await? {
        if page.len() >= limit
            && let Some((end, _)) = page.last()
        {
            last = Some(last.map_or(*end, |last| last.min(*end)));
        }
        for (id, part) in page {
            match whole.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(part);
                }
                Entry::Occupied(mut entry) => join(entry.get_mut(), part),
            }
        }
    }
    let whole = whole
        .into_iter()
        .take_while(|(id, _)| last.is_none_or(|last| *id <= last))
        .take(limit);
    tell_whole(parts, whole.collect()).await
}

/// A part that has ended altogether, or gone elsewhere, is in no page, but its journey tells what became
/// of it.
async fn tell_whole(
    parts: &[Part],
    whole: Vec<(QueueId, ExportedMessage)>,
) -> Result<Vec<ExportedMessage>, StoreError> {
    let ids: Vec<QueueId> = whole.iter().map(|(id, _)| *id).collect();
    let told = parts.iter().map(|part| journey::journeys(&part.core, &ids));
    let mut told: Vec<_> = try_join_all(told)
        .await?
        .into_iter()
        .map(Vec::into_iter)
        .collect();
    let told_of = whole.into_iter().map(|(_, mut message)| {
        let journey = told.iter_mut().filter_map(|each| each.next().flatten());
        let journey = merge(journey.collect()).unwrap_or_default();
        if let Some(new) = &message.message {
            let ended = Ended::count(new, &message.deliveries, &journey.events);
            message.delivered = ended.delivered;
            message.failed = ended.failed;
            message.removed = ended.removed;
            message.journey = journey.events;
        }
        message
    });
    Ok(told_of.collect())
}

/// At least so many of a partition's messages, unless there are not so many.
async fn page(
    parts: &[Part],
    part: &Part,
    mut after: Option<QueueId>,
    limit: usize,
) -> Result<Vec<(QueueId, ExportedMessage)>, StoreError> {
    let mut page = Vec::new();
    while page.len() < limit {
        let more = transfer::export(&part.core, parts, after, limit).await?;
        if more.is_empty() {
            break;
        }
        page.extend(more.into_iter().filter_map(|part| {
            let id = part.message.as_ref()?.queue_id.parse().ok()?;
            Some((id, part))
        }));
        after = page.last().map(|(id, _)| *id);
    }
    Ok(page)
}

/// Adds another part of a message. Its journey is put together later.
fn join(whole: &mut ExportedMessage, part: ExportedMessage) {
    whole.accepted_us = whole.accepted_us.min(part.accepted_us);
    whole.deliveries.extend(part.deliveries);
    whole.deliveries.sort_by_key(|delivery| delivery.number);
}

/// Takes messages in, one that is given twice first once and then again.
pub(super) async fn import(
    partitions: Partitions,
    parts: &[Part],
    messages: Vec<ExportedMessage>,
) -> Vec<Result<Enqueued, StoreError>> {
    let mut results: Vec<_> = (0..messages.len())
        .map(|_| Err(malformed("import")))
        .collect();
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut rounds: Vec<Vec<(usize, ExportedMessage)>> = Vec::new();
    for (place, message) in messages.into_iter().enumerate() {
        let id = message.message.as_ref().map(|new| new.queue_id.clone());
        let times = times.entry(id.unwrap_or_default()).or_default();
        if rounds.len() == *times {
            rounds.push(Vec::new());
        }
        rounds[*times].push((place, message));
        *times += 1;
    }
    for round in rounds {
        let imported = round.into_iter().map(|(place, message)| async move {
            (place, import_one(partitions, parts, message).await)
        });
        for (place, result) in join_all(imported).await {
            results[place] = result;
        }
    }
    results
}

/// Each part goes where it belongs. What has ended is told of and counted with the first. Then it becomes
/// known wherever it would come to if it were accepted anew, though nothing of it is open there any more.
async fn import_one(
    partitions: Partitions,
    parts: &[Part],
    message: ExportedMessage,
) -> Result<Enqueued, StoreError> {
    let mut answer = Enqueued::AlreadyAccepted;
    for (partition, message) in divide(partitions, message.clone()) {
        let part = &parts[partition];
        part.hint.something_came();
        part.hint.time_came_nearer();
        let mut results = transfer::import(&part.core, vec![message]).await;
        // Repeated after an error, the parts that are there are known.
        let result = results.pop().ok_or_else(|| malformed("import"))??;
        if result == Enqueued::Accepted {
            answer = result;
        }
    }
    let elsewhere = without_open(partitions, &message).into_iter();
    let known = elsewhere.map(|partition| transfer::remember(&parts[partition].core, &message));
    try_join_all(known).await?;
    Ok(answer)
}

/// Partitions of a message's envelope in which nothing of it is open.
fn without_open(partitions: Partitions, message: &ExportedMessage) -> BTreeSet<usize> {
    let envelope = message.message.as_ref().and_then(|it| it.envelope.as_ref());
    let to = envelope.map_or(&[][..], |envelope| &envelope.recipients);
    let mut meant: BTreeSet<usize> = to.iter().map(|to| partitions.of(&to.destination)).collect();
    for delivery in &message.deliveries {
        meant.remove(&partitions.of(&delivery.destination));
    }
    meant
}

fn divide(partitions: Partitions, mut message: ExportedMessage) -> Vec<(usize, ExportedMessage)> {
    let mut by_partition: BTreeMap<usize, Vec<ExportedDelivery>> = BTreeMap::new();
    for delivery in std::mem::take(&mut message.deliveries) {
        let partition = partitions.of(&delivery.destination);
        by_partition.entry(partition).or_default().push(delivery);
    }
    if by_partition.is_empty() {
        // Refused there, as it would be with one partition.
        return vec![(0, message)];
    }
    let mut divided = Vec::with_capacity(by_partition.len());
    for (partition, deliveries) in by_partition {
        divided.push((
            partition,
            ExportedMessage {
                deliveries,
                ..message.clone()
            },
        ));
        // The others tell only how it began.
        message
            .journey
            .truncate(transfer::beginning(&message.journey));
        (message.delivered, message.failed, message.removed) = (0, 0, 0);
    }
    divided
}

#[cfg(test)]
mod tests {
    use postrider_protocol::queue_v1::{JourneyEvent, Notice, Queued, journey_event};

    use super::*;

    fn event(time_us: u64, what: journey_event::What) -> JourneyEvent {
        JourneyEvent {
            time_us,
            instance: String::new(),
            what: Some(what),
        }
    }

    #[test]
    fn what_leaves_is_counted_once_and_never_below_nothing() {
        let counts = StatsResponse {
            waiting: 1,
            open: 2,
            accepted: 2,
            unknown_deliveries: 1,
            ..StatsResponse::default()
        };
        let id = DeliveryId {
            queue_id: QueueId::new(),
            number: 0,
        };
        let leaving = Counted {
            leaving: Leaving::new(id, "1 1".to_owned()).unwrap(),
            destination: "smtp:a.test".to_owned(),
            recipients: 2,
            held: false,
            unsure: true,
        };
        let mut left = counts.clone();
        leave_out(&mut left, &leaving, false);
        assert_eq!(left, counts);
        // The second look is at counts that changed meanwhile.
        for _ in 0..2 {
            leave_out(&mut left, &leaving, true);
            assert_eq!(left, StatsResponse::default());
        }
    }

    #[test]
    fn a_journey_is_told_once() {
        let part = |queued: u64, then: u64, ended: bool| Journey {
            ended,
            events: vec![
                event(1, journey_event::What::Received(Default::default())),
                event(queued, journey_event::What::Queued(Queued::default())),
                event(then, journey_event::What::Notice(Notice::default())),
            ],
            ..Journey::default()
        };
        let whole = merge(vec![part(3, 9, true), part(2, 5, false)]).unwrap();
        let times: Vec<u64> = whole.events.iter().map(|event| event.time_us).collect();
        assert_eq!(times.len(), 4, "{times:?}");
        assert_eq!((times[0], times[2], times[3]), (1, 5, 9));
        assert!(!whole.ended);
        assert_eq!(merge(Vec::new()), None);
    }
}
