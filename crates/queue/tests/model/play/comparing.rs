//! Compares everything that can be seen.

use std::collections::HashSet;

use postrider_model::{Event, Totals, invariant, view};
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::delivery_status::State;
use postrider_protocol::queue_v1::{
    Attempt, DeliveryStatus, Filter, JourneyEvent, Queued, ShowResponse, StatsResponse,
    journey_event,
};

use super::{Outcome, Play, World, check, destination};

impl Play<'_> {
    pub(super) async fn all(&self) -> Outcome<Vec<DeliveryStatus>> {
        let all = self.store().list(&Filter::default(), None, 10_000).await;
        all.map_err(|error| error.to_string())
    }

    /// Compares all deliveries and all counts.
    pub(super) async fn compare(&mut self) -> Outcome {
        self.look_at_the_clock().await?;
        if !self.world.kind.whole {
            // An ask for leases ends those that are over, but only in the partitions that it comes to.
            let expired = self.store().expire().await;
            expired.map_err(|error| error.to_string())?;
            self.world.model.expire();
        }
        let all = self.all().await?;
        let stats = self.store().stats().await;
        let stats = stats.map_err(|error| error.to_string())?;
        let mut stats = stats;
        if !self.world.kind.whole {
            let ids: HashSet<&str> = all.iter().map(|status| status.queue_id.as_str()).collect();
            check!(
                stats.messages >= ids.len() as u64,
                "{} messages of {}",
                stats.messages,
                ids.len()
            );
            stats.messages = ids.len() as u64;
        }
        invariant::counts_add_up(&stats)?;
        invariant::counts_are_true(&stats, &all)?;
        invariant::slots_are_kept(&stats)?;
        invariant::deliveries_are_sound(&all)?;
        self.world.deliveries_are(&all)?;
        self.world.counts_are(&stats)
    }

    /// Compares the journeys of all messages, and the messages themselves.
    pub(crate) async fn compare_journeys(&mut self) -> Outcome {
        for (id, message) in &self.world.model.messages {
            let shown = self.store().show(*id).await;
            let shown = shown.map_err(|error| error.to_string())?;
            check!(
                shown.is_some() == message.ended_us.is_none(),
                "show {id}: {shown:?}, ended {:?}",
                message.ended_us
            );
            if let Some(shown) = shown {
                let wanted = view::shown(&self.world.model, *id);
                let wanted = wanted.map(|shown| self.world.comparable_shown(shown));
                let shown = Some(self.world.comparable_shown(shown));
                check!(shown == wanted, "show {id}: {shown:#?}\nnot {wanted:#?}");
            }
            if self.subject.forgets() && self.world.model.may_be_forgotten(*id) {
                continue;
            }
            let journey = self.store().journey(*id).await;
            let journey = journey.map_err(|error| error.to_string())?;
            let Some(journey) = journey else {
                return Err(format!("the journey of {id} is lost"));
            };
            invariant::journey_is_sound(&journey)?;
            let ended = message.ended_us.is_some();
            check!(journey.ended == ended, "journey of {id}: ended: {}", !ended);
            same_journey(*id, &journey.events, &message.events, &self.world)?;
        }
        let unknown = QueueId::from_u128(7);
        let nothing = self.store().journey(unknown).await;
        let nothing = nothing.map_err(|error| error.to_string())?;
        check!(nothing.is_none(), "a journey of what never was");
        Ok(())
    }
}

impl World {
    fn deliveries_are(&self, all: &[DeliveryStatus]) -> Outcome {
        let open = self.model.open().count();
        check!(all.len() == open, "{} deliveries, not {open}", all.len());
        for (told, (id, _)) in all.iter().zip(self.model.open()) {
            let told = self.comparable_status(told.clone());
            let wanted = self.comparable_status(view::status(&self.model, id));
            check!(told == wanted, "there is {told:#?}\nnot {wanted:#?}");
        }
        Ok(())
    }

    fn comparable_shown(&self, mut shown: ShowResponse) -> ShowResponse {
        let deliveries = shown.deliveries.into_iter();
        shown.deliveries = deliveries
            .map(|status| self.comparable_status(status))
            .collect();
        shown
    }

    /// Without what is free.
    fn comparable_status(&self, mut status: DeliveryStatus) -> DeliveryStatus {
        status.suspensions.sort();
        if status.state() != State::Suspended {
            status.suspensions.clear();
        }
        status
    }

    fn counts_are(&self, stats: &StatsResponse) -> Outcome {
        let told = Totals {
            accepted: stats.accepted,
            delivered: stats.delivered,
            failed: stats.failed,
            removed: stats.removed,
            stale: stats.stale_completions,
            unknown: stats.unknown_outcomes,
        };
        let totals = self.model.totals;
        check!(told == totals, "{told:?}, not {totals:?}");
        let wanted = view::stats(&self.model);
        check!(
            stats.unknown_deliveries == wanted.unknown_deliveries,
            "{} deliveries with an unknown outcome, not {}",
            stats.unknown_deliveries,
            wanted.unknown_deliveries
        );
        for domain in 0..4 {
            let to = destination(domain);
            let told = stats.destinations.iter();
            let told = told.clone().find(|told| told.destination == to.as_str());
            let known = wanted.destinations.iter();
            let known = known.clone().find(|known| known.destination == to.as_str());
            let waiting = known.map_or(0, |known| known.waiting);
            let slots = known.map_or(0, |known| known.slots_in_use);
            let right = match told {
                Some(told) => told.waiting == waiting && told.slots_in_use == slots,
                None => waiting == 0,
            };
            check!(
                right,
                "{to}: {told:?}, not {waiting} waiting and {slots} slots"
            );
        }
        Ok(())
    }
}

/// What a journey's event tells that is promised.
#[derive(Debug, PartialEq)]
enum Told {
    Received,
    Queued(Queued),
    Attempt { attempt: Attempt, worker: String },
    Dsn(String),
    Notice { operator: String },
    Nothing,
}

fn told(event: &JourneyEvent) -> (u64, Told) {
    let what = match event.what.as_ref() {
        Some(journey_event::What::Received(_)) => Told::Received,
        Some(journey_event::What::Queued(queued)) => Told::Queued(queued.clone()),
        Some(journey_event::What::Attempt(attempt)) => Told::Attempt {
            attempt: attempt.clone(),
            worker: event.instance.clone(),
        },
        Some(journey_event::What::Notice(notice)) if !notice.dsn_queue_id.is_empty() => {
            Told::Dsn(notice.dsn_queue_id.clone())
        }
        Some(journey_event::What::Notice(notice)) => Told::Notice {
            operator: notice.operator.clone(),
        },
        None => Told::Nothing,
    };
    (event.time_us, what)
}

/// Whether a journey tells what it must, in order.
pub(super) fn same_journey(
    id: QueueId,
    events: &[JourneyEvent],
    wanted: &[Event],
    world: &World,
) -> Outcome {
    let mut got: Vec<_> = events.iter().map(told).collect();
    let mut must: Vec<_> = wanted
        .iter()
        .map(|event| (told(&event.event), event.optional))
        .collect();
    if !world.kind.whole {
        // What happened at the same time in several partitions may be told in any order.
        got.sort_by_key(|event| (event.0, format!("{:?}", event.1)));
        must.sort_by_key(|(event, _)| (event.0, format!("{:?}", event.1)));
    }
    check!(
        explains(&got, &must),
        "journey of {id}: {got:?}\nnot {must:?}"
    );
    Ok(())
}

fn explains(got: &[(u64, Told)], must: &[((u64, Told), bool)]) -> bool {
    match (got.split_first(), must.split_first()) {
        (None, _) => must.iter().all(|(_, optional)| *optional),
        (Some(_), None) => false,
        (Some((first, rest)), Some(((wanted, optional), others))) => {
            (first == wanted && explains(rest, others)) || (*optional && explains(got, others))
        }
    }
}
