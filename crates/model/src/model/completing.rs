//! Attempts are reported.

use postrider_protocol::queue_v1::{Notice, OutcomeKind, RecipientOutcome, journey_event};
use postrider_queue::store::clock::micros;
use postrider_queue::store::{Act, Completion};

use super::{Model, State};

/// What must become of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It applies.
    Done,
    /// It changes nothing.
    Stale,
    /// It was applied before: done, if the store remembers, else stale.
    Repeated,
}

impl Model {
    /// What must become of a completion.
    #[must_use]
    pub fn judge(&self, completion: &Completion) -> Verdict {
        let number = completion.attempt.number;
        let Some(delivery) = self.delivery(completion.delivery) else {
            return Verdict::Stale;
        };
        let current = self.is_live(completion.token)
            && delivery.state == State::Leased(completion.token)
            && (number == 0 || number == delivery.attempts + 1);
        let repeated = delivery
            .applied
            .iter()
            .any(|(token, done)| *token == completion.token && number <= *done);
        match (current, repeated) {
            (true, _) => Verdict::Done,
            (_, true) => Verdict::Repeated,
            _ => Verdict::Stale,
        }
    }

    /// Applies a completion that is current.
    pub fn complete(&mut self, completion: &Completion) {
        let id = completion.delivery;
        let now_us = self.now_us;
        let expires_us = self.expires_us(id);
        let delivery = self.delivery_mut(id);
        let number = delivery.attempts + 1;
        let (mut delivered, mut failed, mut unknown, mut missing) = (0, 0, false, false);
        let mut left = Vec::new();
        for recipient in std::mem::take(&mut delivery.open) {
            let mut outcomes = completion.attempt.outcomes.iter();
            let outcome = outcomes.find(|outcome| outcome.address == recipient.address);
            match outcome.map(RecipientOutcome::kind) {
                Some(OutcomeKind::Delivered) => delivered += 1,
                Some(OutcomeKind::Failed) => failed += 1,
                kind => {
                    unknown |= kind == Some(OutcomeKind::Unknown);
                    missing |= kind.is_none();
                    if let Some(outcome) = outcome {
                        let address = recipient.address.clone();
                        delivery.last.insert(address, outcome.clone());
                    }
                    left.push(recipient);
                }
            }
        }
        let retry_us = now_us + micros(completion.retry_after);
        delivery.due_us = match missing {
            true => now_us,
            false => retry_us.min(expires_us).max(now_us),
        };
        delivery.open = left;
        delivery.attempts = number;
        delivery.unknown_attempts += u32::from(unknown);
        delivery.delay_warned |= completion.delay_warned;
        delivery.applied.push((completion.token, number));
        delivery.given_back = false;
        let (ended, due_us) = (delivery.open.is_empty(), delivery.due_us);
        let next_us = match delivery.pending {
            _ if ended => 0,
            Some(Act::Remove) => 0,
            Some(Act::Bounce) => now_us,
            _ => due_us,
        };
        self.totals.delivered += delivered;
        self.totals.failed += failed;
        self.totals.unknown += u64::from(unknown);
        let message = self.messages.get_mut(&id.queue_id).unwrap();
        message.ended.delivered += delivered;
        message.ended.failed += failed;
        let mut attempt = completion.attempt.clone();
        attempt.number = number;
        attempt.next_attempt_us = next_us;
        let attempt = journey_event::What::Attempt(attempt);
        self.tell(id.queue_id, &completion.worker, attempt, false);
        if ended {
            self.end(id);
        } else {
            self.settle(id, unknown);
        }
        for dsn in &completion.dsn {
            let notice = Notice {
                text: format!("DSN {} sent", dsn.queue_id),
                operator: String::new(),
                dsn_queue_id: dsn.queue_id.clone(),
            };
            let instance = self.settings.instance.clone();
            let notice = journey_event::What::Notice(notice);
            self.tell(id.queue_id, &instance, notice, false);
            self.enqueue(dsn);
        }
    }
}
