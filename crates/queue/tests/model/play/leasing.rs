//! Destinations are leased, deliveries are pulled, leases end.

use std::time::Duration;

use postrider_model::{Model, State, invariant, view};
use postrider_protocol::queue_v1::LeasedDelivery;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::{DeliveryId, Destination};
use postrider_queue::store::clock::micros;
use postrider_queue::store::{Grant, LeaseRequest};

use super::{Outcome, World, check, destination};

/// How often in a row a store may ask to be asked again at once.
const AT_ONCE: u32 = 50;

impl World {
    pub(super) fn granted(
        &mut self,
        request: &LeaseRequest,
        most: usize,
        grants: &[Grant],
    ) -> Outcome {
        self.model.expire();
        check!(grants.len() <= most, "{} grants of {most}", grants.len());
        let before = self.model.clone();
        let mut left = request.slots;
        for grant in grants {
            let to = &grant.destination;
            check!(carries(request, to), "{to} was not asked for");
            let held = before.lease_of(&request.worker, to);
            let had = held.map_or(0, |(_, lease)| lease.slots);
            check!(
                grant.slots > had,
                "{grant:?} gives nothing, {had} slots before"
            );
            check!(grant.begins == (had == 0), "{grant:?}, {had} slots before");
            let added = grant.slots - had;
            check!(added <= left, "{grant:?} is more than the {left} left");
            left -= added;
            let due = before.due_or_suspended(to).len();
            check!(added as usize <= due, "{grant:?} for {due} due");
            check!(
                !before.is_suspended_whole(to),
                "{grant:?} of a destination that is suspended"
            );
            let (used, limit) = (
                before.slots_in_use(to),
                before.settings.slots_per_destination,
            );
            check!(
                used + added <= limit,
                "{grant:?} beyond the limit, {used} in use"
            );
            match held {
                Some((token, _)) => check!(grant.token == token, "{grant:?}, held is {token}"),
                None => {
                    if self.kind.whole {
                        invariant::token_is_new(self.model.last_token, grant.token)?;
                    }
                    let new = !self.tokens.contains(&grant.token);
                    check!(new, "{grant:?} has a token that was there before");
                    self.tokens.push(grant.token);
                }
            }
            self.model
                .grant(&request.worker, to, grant.token, grant.slots);
        }
        let leases = self.model.leases.values();
        invariant::one_lease_each(
            leases.map(|lease| (lease.worker.as_str(), lease.destination.as_str())),
        )?;
        let full = left == 0 || grants.len() == most;
        nobody_is_passed_over(&before, request, grants, full, self.kind.whole)
    }

    pub(super) fn pulled(
        &mut self,
        token: u64,
        most: usize,
        pulled: Option<&[LeasedDelivery]>,
    ) -> Outcome {
        let live = self.model.is_live(token);
        check!(
            pulled.is_some() == live,
            "pull under {token}: {pulled:?}, live: {live}"
        );
        let Some(pulled) = pulled else {
            return Ok(());
        };
        let to = self.model.leases[&token].destination.clone();
        let mut left = self.model.due(&to);
        check!(
            pulled.len() == most.min(left.len()),
            "pulled {} of {}, {most} asked for",
            pulled.len(),
            left.len()
        );
        for delivery in pulled {
            let id: DeliveryId = delivery
                .delivery_id
                .parse()
                .map_err(|_| "no id".to_owned())?;
            let at = left.iter().position(|due| *due == id);
            let Some(at) = at else {
                return Err(format!("{id} was pulled, and is not due"));
            };
            left.remove(at);
            if let Some(first) = left
                .iter()
                .find(|other| comes_first(&self.model, **other, id))
            {
                return Err(format!(
                    "{id} was pulled before {first}, which was due first"
                ));
            }
            let wanted = view::leased(&self.model, id, token);
            let (got, wanted) = (
                self.comparable(delivery.clone(), id),
                self.comparable(wanted, id),
            );
            check!(got == wanted, "pulled {got:#?}\nnot {wanted:#?}");
            self.model.take(id, token);
        }
        Ok(())
    }

    /// Without what is free.
    fn comparable(&self, mut leased: LeasedDelivery, id: DeliveryId) -> LeasedDelivery {
        if leased.disposition() != Disposition::Attempt {
            leased.delay_warning_due = false;
        }
        if self.model.delivery(id).unwrap().rerouted
            && let Some(envelope) = &mut leased.envelope
        {
            for recipient in &mut envelope.recipients {
                recipient.destination.clear();
            }
        }
        leased
    }

    pub(super) fn renewed(&mut self, tokens: &[u64], stale: &[u64]) -> Outcome {
        let mut stale = stale.to_vec();
        stale.sort_unstable();
        let mut wanted = self.model.renew(tokens);
        wanted.sort_unstable();
        check!(
            stale == wanted,
            "renew of {tokens:?}: stale {stale:?}, not {wanted:?}"
        );
        Ok(())
    }

    pub(super) fn expired(&mut self, next: Option<Duration>) -> Outcome {
        self.model.expire();
        let now_us = self.model.now_us;
        let told = next.map(|next| now_us + micros(next));
        let (earliest, needed) = (earliest(&self.model), needed(&self.model));
        let in_time = match (told, needed) {
            (_, None) => true,
            (Some(told), Some(needed)) => told <= needed,
            (None, Some(_)) => false,
        };
        // A store that tidies up a bounded piece at a time asks to be asked again at once, but not
        // for ever: a history has too little in it for that.
        self.at_once = match next {
            Some(Duration::ZERO) => self.at_once + 1,
            _ => 0,
        };
        let not_early = self.at_once > 0 && self.at_once < AT_ONCE
            || told.is_none_or(|told| earliest.is_some_and(|at| told >= at));
        check!(
            in_time && not_early,
            "expire: next is {told:?}, must be from {earliest:?} to {needed:?}"
        );
        Ok(())
    }
}

fn carries(request: &LeaseRequest, to: &Destination) -> bool {
    request.transports.iter().any(|name| name == to.transport())
}

/// A destination that nobody has is not passed over, unless longer waiting ones took it all. How long
/// one waits may count from its oldest due delivery, or from when it was last served.
fn nobody_is_passed_over(
    before: &Model,
    request: &LeaseRequest,
    grants: &[Grant],
    full: bool,
    in_order: bool,
) -> Outcome {
    let oldest = |ids: Vec<DeliveryId>| ids.first().map(|id| before.delivery(*id).unwrap().due_us);
    let granted = grants
        .iter()
        .filter_map(|grant| oldest(before.due_or_suspended(&grant.destination)));
    let newest_granted_us = granted.max().unwrap_or(0);
    for domain in 0..4 {
        let to = destination(domain);
        let Some(due_us) = oldest(before.due(&to)) else {
            continue;
        };
        let passed_over = carries(request, &to)
            && before.slots_in_use(&to) == 0
            && !grants.iter().any(|grant| grant.destination == to);
        let served_us = before.served_us.get(&to).copied().unwrap_or(0);
        check!(
            !passed_over || (full && (!in_order || due_us.max(served_us) >= newest_granted_us)),
            "{to} was passed over, with {due_us} due: {grants:?}"
        );
    }
    Ok(())
}

/// Whether one must leave before the other: of one tenant, sender and priority, what became due first.
fn comes_first(model: &Model, one: DeliveryId, other: DeliveryId) -> bool {
    let class = |id: DeliveryId| {
        let message = &model.messages[&id.queue_id];
        (
            message.new.tenant.as_str(),
            message.sender(),
            message.new.priority,
        )
    };
    let (first, second) = (model.delivery(one).unwrap(), model.delivery(other).unwrap());
    class(one) == class(other) && first.ready_us < second.due_us
}

/// The first time at which anything ends or becomes due.
fn earliest(model: &Model) -> Option<u64> {
    let leases = model.leases.values().map(|lease| lease.expires_us);
    let due = model.open().map(|(_, delivery)| delivery.due_us);
    let holds = model
        .open()
        .filter_map(|(_, delivery)| match delivery.state {
            State::Held { until_us } => until_us,
            _ => None,
        });
    let suspensions = model.suspensions.values();
    let suspensions = suspensions.map(|suspension| suspension.until_us);
    let all = leases.chain(due).chain(holds).chain(suspensions);
    all.filter(|at| *at > model.now_us).min()
}

/// The first time at which somebody must look: a lease ends, or there is work where there was none.
fn needed(model: &Model) -> Option<u64> {
    let leases = model.leases.values().map(|lease| lease.expires_us);
    let work = model.open().filter_map(|(id, delivery)| {
        let free_us = match delivery.state {
            State::Waiting => 0,
            State::Held { until_us } => until_us?,
            State::Leased(_) | State::Done => return None,
        };
        let mut from_us = delivery.due_us.max(free_us);
        for stop in model.suspensions_of(id) {
            match model.suspensions[&stop].until_us {
                0 => return None,
                until_us => from_us = from_us.max(until_us),
            }
        }
        // Where something is due already, nobody waits for the next.
        (from_us > model.now_us && model.due(&delivery.destination).is_empty()).then_some(from_us)
    });
    leases.chain(work).min()
}
