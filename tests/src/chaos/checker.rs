//! What must hold of a run, whatever was done to it. Pure: facts in, problems out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::{Accepted, Arrival, Attempt, Event, History, Outcome};

/// How long after it hears again a worker may still hold connections that are no longer its own.
const COMES_TO: Duration = Duration::from_secs(2);

/// Everything that does not hold; empty if all is well.
#[must_use]
pub fn check(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for refused in &history.refused {
        problems.push(format!("refused for good: {refused}"));
    }
    for given_up in &history.given_up {
        problems.push(format!("not accepted in the end: {given_up}"));
    }
    for accepted in &history.accepted {
        nobody_vanished(history, accepted, &mut problems);
    }
    duplicates_are_explained(history, &mut problems);
    contents_are_whole(history, &mut problems);
    slots_were_kept(history, &mut problems);
    for (id, events) in &history.journeys {
        one_holder(id, events, &mut problems);
        ends_once(id, events, &mut problems);
    }
    each_failure_has_its_dsn(history, &mut problems);
    counts_add_up(history, &mut problems);
    problems
}

fn attempts(events: &[Event]) -> impl Iterator<Item = &Attempt> {
    events.iter().filter_map(|event| match event {
        Event::Attempt(attempt) => Some(attempt),
        _ => None,
    })
}

/// Outcomes of a recipient, in order.
fn outcomes<'a>(events: &'a [Event], recipient: &'a str) -> impl Iterator<Item = Outcome> + 'a {
    attempts(events).flat_map(move |attempt| {
        attempt
            .outcomes
            .iter()
            .filter(move |(address, _)| address == recipient)
            .map(|(_, outcome)| *outcome)
    })
}

fn arrivals<'a>(
    history: &'a History,
    queue_id: &'a str,
    recipient: &'a str,
) -> impl Iterator<Item = &'a Arrival> {
    history.arrivals.iter().filter(move |arrival| {
        arrival.queue_id == queue_id && arrival.recipients.iter().any(|one| one == recipient)
    })
}

/// A 250 means safe: who was accepted has the message, or its sender knows better.
fn nobody_vanished(history: &History, accepted: &Accepted, problems: &mut Vec<String>) {
    let id = &accepted.queue_id;
    let Some(events) = history.journeys.get(id) else {
        problems.push(format!("{id} was accepted and has no journey"));
        return;
    };
    if !events.contains(&Event::Queued) {
        problems.push(format!("{id}: the journey does not say that it was queued"));
    }
    for recipient in &accepted.recipients {
        let arrived = arrivals(history, id, recipient).next().is_some();
        let said: Vec<Outcome> = outcomes(events, recipient).collect();
        match (said.last(), arrived) {
            (Some(Outcome::Delivered), true) | (Some(Outcome::Failed), _) => {}
            (Some(Outcome::Delivered), false) => problems.push(format!(
                "{id} for {recipient} is called delivered and did not arrive"
            )),
            (last, _) => problems.push(format!(
                "{id} for {recipient} was accepted and has not ended: {last:?}"
            )),
        }
    }
}

/// A recipient gets a message once, and once more for each attempt of which nobody can know.
fn duplicates_are_explained(history: &History, problems: &mut Vec<String>) {
    let mut arrived: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for arrival in &history.arrivals {
        for recipient in &arrival.recipients {
            *arrived.entry((&arrival.queue_id, recipient)).or_default() += 1;
        }
    }
    for ((id, recipient), times) in arrived {
        let events = history.journeys.get(id).map_or(&[][..], Vec::as_slice);
        if events.is_empty() {
            problems.push(format!("{id} arrived for {recipient} and has no journey"));
            continue;
        }
        let unknown = outcomes(events, recipient)
            .filter(|outcome| *outcome == Outcome::Unknown)
            .count();
        let at: BTreeSet<&str> = history
            .arrivals
            .iter()
            .filter(|arrival| arrival.queue_id == id)
            .filter(|arrival| arrival.recipients.iter().any(|one| one == recipient))
            .map(|arrival| arrival.destination.as_str())
            .collect();
        let lapsed = events.iter().filter(|event| lapsed_at(event, &at)).count();
        if times > 1 + unknown + lapsed {
            problems.push(format!(
                "{id} arrived {times} times for {recipient}; {unknown} attempts with an unknown outcome and {lapsed} \
                 leases without an end do not explain that"
            ));
        }
    }
    let mut by_number: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for accepted in &history.accepted {
        by_number
            .entry(accepted.number)
            .or_default()
            .insert(&accepted.queue_id);
    }
    for (number, ids) in by_number {
        if ids.len() > 1 && !history.unanswered.contains(&number) {
            problems.push(format!(
                "message {number} was accepted as {ids:?}, and each was answered"
            ));
        }
    }
}

fn lapsed_at(event: &Event, destinations: &BTreeSet<&str>) -> bool {
    match event {
        Event::Lapsed {
            destination: Some(destination),
        } => destinations.contains(destination.as_str()),
        Event::Lapsed { destination: None } => true,
        _ => false,
    }
}

fn contents_are_whole(history: &History, problems: &mut Vec<String>) {
    for arrival in &history.arrivals {
        if !arrival.whole {
            problems.push(format!(
                "{} arrived at {} with another content",
                arrival.queue_id, arrival.destination
            ));
        }
    }
}

/// The slots are the cluster's: at no moment more connections than that, but those of workers that
/// could not know.
fn slots_were_kept(history: &History, problems: &mut Vec<String>) {
    for crowd in &history.crowds {
        let deaf = |worker: &&String| {
            history.deaf.iter().any(|deaf| {
                deaf.worker == **worker && deaf.from <= crowd.at && crowd.at <= deaf.to + COMES_TO
            })
        };
        let counted = crowd.workers.iter().filter(|worker| !deaf(worker)).count();
        if counted > history.slots {
            problems.push(format!(
                "{} had {counted} connections at {:.3} s, not {}: {:?}",
                crowd.destination,
                crowd.at.as_secs_f64(),
                history.slots,
                crowd.workers
            ));
        }
    }
}

/// Two applied attempts at one delivery would mean two live leases if they overlap, and a stale one
/// that was applied if a number comes again.
fn one_holder(id: &str, events: &[Event], problems: &mut Vec<String>) {
    let mut last: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    let mut lapsed: BTreeMap<&str, u32> = BTreeMap::new();
    let mut lapsed_anywhere = 0;
    for event in events {
        match event {
            Event::Lapsed {
                destination: Some(destination),
            } => *lapsed.entry(destination).or_default() += 1,
            Event::Lapsed { destination: None } => lapsed_anywhere += 1,
            Event::Attempt(attempt) => {
                let destination = attempt.destination.as_str();
                let (number, ended_us) = last.get(destination).copied().unwrap_or_default();
                // A lease that lapsed was an attempt too.
                let least = number + 1 + lapsed.remove(destination).unwrap_or_default();
                let most = least + lapsed_anywhere;
                if !(least..=most).contains(&attempt.number) {
                    problems.push(format!(
                        "{id} at {destination}: attempt {} was applied where {least} was due",
                        attempt.number
                    ));
                }
                if attempt.started_us < ended_us {
                    problems.push(format!(
                        "{id} at {destination}: attempts {number} and {} were under way at one time",
                        attempt.number
                    ));
                }
                last.insert(destination, (attempt.number, attempt.ended_us));
            }
            _ => {}
        }
    }
}

/// Each recipient ends once, and nothing is attempted for it after that.
fn ends_once(id: &str, events: &[Event], problems: &mut Vec<String>) {
    let recipients: BTreeSet<&str> = attempts(events)
        .flat_map(|attempt| attempt.outcomes.iter().map(|(address, _)| address.as_str()))
        .collect();
    for recipient in recipients {
        let said: Vec<Outcome> = outcomes(events, recipient).collect();
        let over = |outcome: &Outcome| matches!(outcome, Outcome::Delivered | Outcome::Failed);
        if let Some(at) = said.iter().position(over)
            && at + 1 < said.len()
        {
            problems.push(format!(
                "{id} for {recipient} goes on after its end: {said:?}"
            ));
        }
    }
}

/// A failure has one DSN, which names it, is itself a message of the queue, and arrives.
fn each_failure_has_its_dsn(history: &History, problems: &mut Vec<String>) {
    // What is a DSN has none of its own.
    let dsns: BTreeSet<&str> = history
        .journeys
        .values()
        .flatten()
        .filter_map(|event| match event {
            Event::Dsn(id) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    let mut reported: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for arrival in &history.arrivals {
        let Some(report) = &arrival.report else {
            continue;
        };
        if !dsns.contains(arrival.queue_id.as_str()) {
            problems.push(format!(
                "a DSN {} arrived that no journey speaks of",
                arrival.queue_id
            ));
        }
        for failed in &report.failed {
            let ids = reported.entry((&report.about, failed)).or_default();
            ids.insert(&arrival.queue_id);
        }
    }
    for (id, events) in &history.journeys {
        if dsns.contains(id.as_str()) {
            continue;
        }
        let mut failures = BTreeSet::new();
        for attempt in attempts(events) {
            for (address, outcome) in &attempt.outcomes {
                if *outcome == Outcome::Failed {
                    failures.insert(address.as_str());
                }
            }
        }
        for failed in &failures {
            match reported.remove(&(id.as_str(), *failed)) {
                None => problems.push(format!("{id} failed for {failed}, and no DSN says so")),
                Some(ids) if ids.len() > 1 => problems.push(format!(
                    "{id} failed for {failed}, and {} DSNs say so: {ids:?}",
                    ids.len()
                )),
                Some(_) => {}
            }
        }
    }
    for (about, failed) in reported.into_keys() {
        problems.push(format!(
            "a DSN says that {about} failed for {failed}, and its journey does not"
        ));
    }
}

fn counts_add_up(history: &History, problems: &mut Vec<String>) {
    let counts = &history.counts;
    if counts.open != 0 {
        problems.push(format!("{} recipients are still open", counts.open));
    }
    if counts.accepted != counts.delivered + counts.failed + counts.removed + counts.open {
        problems.push(format!("the counts do not add up: {counts:?}"));
    }
    let told = |wanted: Outcome| {
        history
            .journeys
            .values()
            .flat_map(|events| attempts(events))
            .flat_map(|attempt| &attempt.outcomes)
            .filter(|(_, outcome)| *outcome == wanted)
            .count() as u64
    };
    for (name, count, told) in [
        ("delivered", counts.delivered, told(Outcome::Delivered)),
        ("failed", counts.failed, told(Outcome::Failed)),
    ] {
        if count != told {
            problems.push(format!(
                "{count} recipients are counted as {name}, and journeys tell of {told}"
            ));
        }
    }
}
