//! What a conversation asks of the store, and what it does with the answers.

use std::time::Instant as Moment;

use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{
    CompletionAck, CompletionAcks, CompletionBatch, Grant as GrantFrame, LeaseList, LeasedDelivery,
};
use tokio::time::Instant;

use super::super::grants::Sure;
use super::super::report::{self, Report};
use super::super::wait;
use super::{AGAIN, Answer, Desk, GRANTS, SMALL, WAITING_FRAMES, WANTED_BACK};
use crate::metrics;
use crate::store::{Grant, LeaseRequest, Store, StoreError};

impl Desk {
    /// More is due than the lease's slots can take: more slots, here or with another worker. Up to
    /// its share the worker grows alone, so that connections are used again; beyond that others
    /// that have free slots come first.
    pub(super) fn grow(&mut self, token: u64) {
        let limit = self.with.settings.slots_per_destination;
        let hub = self.with.hub.clone();
        let Some(held) = self.grants.get_mut(token) else {
            return;
        };
        let full = held.more && !held.pulling;
        if !full || !held.grows || held.slots >= limit {
            return;
        }
        let workers = hub.workers(held.destination.transport()).max(1);
        let share = limit.div_ceil(workers).max(SMALL);
        if held.slots < share || !hub.share(self.id, &held.destination) {
            held.grows = false;
            self.lease();
        }
    }

    pub(super) fn lease(&mut self) {
        if self.draining || self.quiet {
            return self.pass_on();
        }
        if self.leasing {
            self.lease_again = true;
            return;
        }
        let slots = self.grants.free();
        if slots == 0 {
            self.crowded = true;
            self.make_way();
            return self.pass_on();
        }
        self.leasing = true;
        let store = self.with.store.clone();
        let asked = Instant::now();
        let request = LeaseRequest {
            worker: self.holder.clone(),
            transports: self.transports.clone(),
            slots,
        };
        self.jobs.push(Box::pin(async move {
            let result = store.lease(request, GRANTS).await;
            Answer::Leased { asked, result }
        }));
    }

    pub(super) fn pull(&mut self, token: u64) {
        if self.draining || self.quiet {
            return;
        }
        let asked = self.grants.room(token);
        if asked == 0 {
            return;
        }
        if self.out.len() >= WAITING_FRAMES / 4 {
            self.held_up = true;
            return;
        }
        if let Some(held) = self.grants.get_mut(token) {
            if !held.told {
                return;
            }
            held.pulling = true;
            held.more = false;
        }
        let store = self.with.store.clone();
        self.jobs.push(Box::pin(async move {
            Answer::Pulled {
                token,
                asked,
                result: store.pull(token, asked).await,
            }
        }));
    }

    pub(super) fn complete(&mut self, batch: CompletionBatch) {
        let mut refused = Vec::new();
        let mut reports = Vec::with_capacity(batch.completions.len());
        let mut tokens = Vec::new();
        for completion in batch.completions {
            let held = self.grants.get_mut(completion.token);
            let destination = held.map(|held| held.destination.as_str());
            let policies = &self.with.settings.policies;
            match report::read(completion, destination, policies, &self.worker) {
                Ok(report) => {
                    let token = report.completion.token;
                    if let Some(held) = self.grants.get_mut(token) {
                        held.sent.remove(&report.completion.delivery);
                        held.since = Moment::now();
                        tokens.push(token);
                    }
                    if let Some(wait) = report.deferred {
                        self.with.timer.at_most(wait);
                    }
                    reports.push(report);
                }
                Err(ack) => refused.push(ack),
            }
        }
        if !refused.is_empty() {
            self.say(Frame::Acks(CompletionAcks { acks: refused }));
        }
        if !reports.is_empty() {
            self.batches += 1;
            let store = self.with.store.clone();
            self.jobs.push(Box::pin(async move {
                Answer::Completed(tell(&*store, reports).await)
            }));
        }
        // The worker's hands are free before the disk is done.
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            self.pull(token);
        }
        self.make_way();
    }

    pub(super) fn take_back(&mut self, tokens: Vec<u64>) {
        let held: Vec<u64> = tokens
            .into_iter()
            .filter(|token| self.let_go(*token))
            .collect();
        self.give_back(held);
    }

    pub(super) fn give_back(&mut self, tokens: Vec<u64>) {
        if tokens.is_empty() {
            return;
        }
        let store = self.with.store.clone();
        self.jobs.push(Box::pin(async move {
            Answer::GaveBack(store.give_back(tokens).await)
        }));
    }

    /// Forgets a lease; true if there was one.
    pub(super) fn let_go(&mut self, token: u64) -> bool {
        let Some(held) = self.grants.remove(token) else {
            return false;
        };
        self.with.hub.set_holder(self.id, &held.destination, false);
        self.tell_free();
        true
    }

    pub(super) fn tell_free(&self) {
        let free = match self.draining {
            true => 0,
            false => self.grants.free(),
        };
        self.with.hub.set_free(self.id, free);
    }

    /// Every slot is taken and mail waits elsewhere: leases without work are wanted back. With
    /// each that comes, the worker is asked to lease again, and it shows whether mail does wait.
    pub(super) fn make_way(&mut self) {
        if !self.crowded {
            return;
        }
        let tokens = self.grants.idle(WANTED_BACK);
        if !tokens.is_empty() {
            self.say(Frame::WantedBack(LeaseList { tokens }));
        }
    }

    pub(super) fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Leased { asked, result } => self.take_grants(asked, result),
            Answer::Pulled {
                token,
                asked,
                result,
            } => self.take_deliveries(token, asked, result),
            Answer::Completed(acks) => {
                self.batches -= 1;
                self.say(Frame::Acks(CompletionAcks { acks }));
            }
            Answer::Renewed {
                tokens,
                sure,
                result,
            } => {
                self.renewing = false;
                match result {
                    Ok(renewed) => self.take_renewed(tokens, sure, renewed),
                    Err(error) => self.failed(&error),
                }
                if std::mem::take(&mut self.renew_again) {
                    self.renew();
                }
            }
            Answer::GaveBack(Ok(())) => self.lease(),
            Answer::GaveBack(Err(error)) => self.failed(&error),
        }
    }

    /// The worker takes a lease to last from its latest heartbeat that was answered, which may have been
    /// sent after the lease was granted. Where the answer was long under way, or comes with a lease that
    /// began with an earlier one which was lost, the worker hears of it after it was renewed, with the
    /// next heartbeat or before.
    fn take_grants(&mut self, asked: Instant, result: Result<Vec<Grant>, StoreError>) {
        self.leasing = false;
        let late = asked.elapsed() > self.with.settings.lease / 20;
        let grants = match result {
            Ok(grants) => grants,
            Err(error) => return self.failed(&error),
        };
        let again = std::mem::take(&mut self.lease_again) || grants.len() == GRANTS;
        if !grants.is_empty() {
            self.with.timer.at_most(self.with.settings.lease);
        }
        let sure = Sure::after(self.beat);
        for grant in grants {
            if self.is_called_back(grant.token) {
                continue;
            }
            self.grants.insert(&grant, sure);
            self.with
                .hub
                .set_holder(self.id, &grant.destination, !self.draining);
            if (grant.begins && !late) || self.grants.is_told(grant.token) {
                self.tell(grant.token);
            }
        }
        if !self.grants.untold().is_empty() {
            self.renew();
        }
        self.tell_free();
        self.crowded = self.grants.free() == 0;
        match self.crowded {
            // There may be more than this worker could take.
            true => self.pass_on(),
            false if again => self.lease(),
            false => {}
        }
    }

    /// Tells the worker of a lease, or of its new slots.
    pub(super) fn tell(&mut self, token: u64) {
        let Some(held) = self.grants.get_mut(token) else {
            return;
        };
        held.told = true;
        held.more = true;
        let frame = GrantFrame {
            token,
            destination: held.destination.to_string(),
            slots: held.slots,
        };
        self.say(Frame::Grant(frame));
        self.pull(token);
    }

    fn take_deliveries(
        &mut self,
        token: u64,
        asked: usize,
        result: Result<Option<Vec<LeasedDelivery>>, StoreError>,
    ) {
        let Some(held) = self.grants.get_mut(token) else {
            // It went back meanwhile, and these with it.
            return;
        };
        held.pulling = false;
        match result {
            Ok(Some(deliveries)) => {
                held.more |= deliveries.len() == asked;
                let ids = deliveries
                    .iter()
                    .filter_map(|delivery| delivery.delivery_id.parse::<DeliveryId>().ok());
                self.grants.sent(token, ids);
                metrics::leased(deliveries.len());
                for delivery in &deliveries {
                    wait::record(delivery);
                }
                for batch in report::batches(deliveries) {
                    self.say(Frame::Deliveries(batch));
                }
                self.pull(token);
                self.grow(token);
                self.make_way();
            }
            Ok(None) => self.revoke(vec![token]),
            Err(error) => {
                held.more = true;
                self.failed(&error);
            }
        }
    }

    pub(super) fn revoke(&mut self, tokens: Vec<u64>) {
        let tokens: Vec<u64> = tokens
            .into_iter()
            .filter(|token| self.let_go(*token))
            .collect();
        if !tokens.is_empty() {
            tracing::warn!(worker = self.worker, ?tokens, "leases are over");
            self.say(Frame::Revoked(LeaseList { tokens }));
            self.lease();
        }
    }

    fn failed(&mut self, error: &StoreError) {
        tracing::warn!(worker = self.worker, %error, "the store does not answer as it should");
        self.again.get_or_insert_with(|| Instant::now() + AGAIN);
    }

    pub(super) fn try_again(&mut self) {
        self.again = None;
        if !self.grants.untold().is_empty() && self.unreached.is_empty() {
            self.renew();
        }
        for token in self.grants.tokens() {
            if let Some(held) = self.grants.get_mut(token) {
                held.more = true;
                held.grows = true;
            }
            self.pull(token);
        }
        self.lease();
        self.reach_again();
    }
}

/// Reports to the store, and tells what came of it.
async fn tell(store: &dyn Store, reports: Vec<Report>) -> Vec<CompletionAck> {
    let (keys, completions): (Vec<_>, Vec<_>) = reports
        .into_iter()
        .map(|report| {
            (
                (report.delivery_id, report.completion.token),
                report.completion,
            )
        })
        .unzip();
    metrics::outcomes(&completions);
    let results = store.complete(completions).await;
    keys.into_iter()
        .zip(results)
        .map(|((delivery_id, token), result)| CompletionAck {
            status: report::ack_status(&delivery_id, result) as i32,
            delivery_id,
            token,
        })
        .collect()
}
