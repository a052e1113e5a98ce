//! What workers report, from the wire to the store and back.

use std::time::Duration;

use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::completion_ack::Status as Ack;
use postrider_protocol::queue_v1::{
    self as wire, CompletionAck, DeliveryBatch, LeasedDelivery, OutcomeKind, body,
};
use prost::Message as _;

use crate::metrics;
use crate::policy::Policies;
use crate::store::{Completed, Completion, StoreError};
use crate::validate;

/// Content in one batch of deliveries, beyond which another one begins.
const BATCH_BYTES: usize = 1 << 20;
/// What an attempt may tell beyond whom its outcomes are about, encoded. The replies to many recipients
/// take most of it.
const LARGEST_ATTEMPT: usize = 4 << 20;
/// What its dialogue may take of that.
const LARGEST_DIALOGUE: usize = 256 << 10;
/// DSNs of one completion.
const MOST_DSN: usize = 100;

/// A completion that can go to the store.
pub(super) struct Report {
    /// As the worker wrote it.
    pub(super) delivery_id: String,
    pub(super) completion: Completion,
    /// When a recipient may be due again.
    pub(super) deferred: Option<Duration>,
}

/// Reads a completion; what makes no sense is answered, and changes nothing. `destination` is the
/// one of its lease; a lease of an earlier conversation is not known here, and then the worker's
/// word must do: nothing but the wait for the next attempt depends on it.
pub(super) fn read(
    completion: wire::Completion,
    destination: Option<&str>,
    policies: &Policies,
    worker: &str,
) -> Result<Report, CompletionAck> {
    let wire::Completion {
        delivery_id,
        token,
        attempt,
        dsn,
        delay_warned,
    } = completion;
    let mut attempt = attempt.unwrap_or_default();
    let dialogue: usize = attempt.dialogue.iter().map(|line| line.encoded_len()).sum();
    if dialogue > LARGEST_DIALOGUE {
        attempt.dialogue.clear();
    }
    if told(&attempt) > LARGEST_ATTEMPT {
        // What became of the recipients counts more than the words of it: refused, the report would never
        // be heard, and whoever got the message would get it again.
        for outcome in &mut attempt.outcomes {
            outcome.reply_text.clear();
        }
    }
    let problem = match delivery_id.parse::<DeliveryId>() {
        Err(_) => Some("it names no delivery".to_owned()),
        Ok(_) if dsn.len() > MOST_DSN => Some("it brings too many DSNs".to_owned()),
        Ok(_)
            if told(&attempt) > LARGEST_ATTEMPT || !validate::are_recipients(&attempt.outcomes) =>
        {
            Some("it tells too much".to_owned())
        }
        Ok(_) => dsn
            .iter()
            .find_map(|dsn| validate::message(dsn).err())
            .map(|problem| format!("its DSN is not acceptable: {problem}")),
    };
    let (Ok(delivery), None) = (delivery_id.parse(), &problem) else {
        tracing::error!(
            delivery = delivery_id,
            problem,
            "a worker's report is not acceptable"
        );
        return Err(CompletionAck {
            delivery_id,
            token,
            status: Ack::Stale as i32,
        });
    };
    let is_again = |outcome: &wire::RecipientOutcome| {
        !matches!(outcome.kind(), OutcomeKind::Delivered | OutcomeKind::Failed)
    };
    let deferred = attempt.outcomes.iter().any(is_again).then(|| {
        let destination = destination.unwrap_or(&attempt.destination);
        let retry = &policies.of(destination).retry;
        retry.random_wait(attempt.number.max(1))
    });
    Ok(Report {
        deferred,
        delivery_id,
        completion: Completion {
            delivery,
            token,
            attempt,
            retry_after: deferred.unwrap_or_default(),
            dsn,
            delay_warned,
            worker: worker.to_owned(),
        },
    })
}

/// Octets that an attempt takes besides the addresses of recipients, which the delivery has as well.
fn told(attempt: &wire::Attempt) -> usize {
    let whom = attempt.outcomes.iter().map(|outcome| outcome.address.len());
    attempt.encoded_len() - whom.sum::<usize>()
}

/// What the worker hears of it.
pub(super) fn ack_status(delivery_id: &str, result: Result<Completed, StoreError>) -> Ack {
    match result {
        Ok(Completed::Done) => Ack::Done,
        Ok(Completed::Stale) => {
            metrics::stale();
            Ack::Stale
        }
        Err(StoreError::Unavailable(reason) | StoreError::Unconfirmed(reason)) => {
            tracing::warn!(
                delivery = delivery_id,
                reason,
                "a completion has to be told again"
            );
            Ack::Retry
        }
        // Telling it again would not help; the lease ends, and the delivery is attempted again.
        Err(error @ (StoreError::Invalid(_) | StoreError::Damaged(_))) => {
            tracing::error!(delivery = delivery_id, %error, "a completion could not be stored");
            Ack::Stale
        }
    }
}

/// Deliveries in frames of a bounded size, each at least one.
pub(super) fn batches(deliveries: Vec<LeasedDelivery>) -> Vec<DeliveryBatch> {
    let mut batches: Vec<DeliveryBatch> = Vec::new();
    let mut bytes = BATCH_BYTES;
    for delivery in deliveries {
        let size = match delivery
            .body
            .as_ref()
            .and_then(|body| body.content.as_ref())
        {
            Some(body::Content::Inline(content)) => content.len(),
            _ => 0,
        };
        bytes = bytes.saturating_add(size);
        if bytes >= BATCH_BYTES {
            bytes = size;
            batches.push(DeliveryBatch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.deliveries.push(delivery);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(recipients: usize, address: &str) -> Result<Report, CompletionAck> {
        let outcomes = (0..recipients).map(|number| wire::RecipientOutcome {
            address: format!("{number}{address}"),
            kind: OutcomeKind::Delivered as i32,
            reply_code: 250,
            reply_text: "2.0.0 Ok: queued as 3Z0123456789ABCDEF, and many thanks for it".repeat(2),
            ..Default::default()
        });
        let completion = wire::Completion {
            delivery_id: format!("{}.0", postrider_protocol::QueueId::new()),
            attempt: Some(wire::Attempt {
                outcomes: outcomes.collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        read(completion, None, &Policies::default(), "worker")
    }

    #[test]
    fn outcomes_count_more_than_their_words() {
        let few = report(100, "@a.test").ok().unwrap();
        assert!(
            few.completion.attempt.outcomes[0]
                .reply_text
                .starts_with("2.0.0")
        );
        let many = report(
            50_000,
            "-who-has-a-longer-name@a-domain-of-some-length.test",
        );
        let many = many.ok().unwrap().completion.attempt.outcomes;
        assert_eq!(many.len(), 50_000);
        assert!(many.iter().all(|outcome| outcome.reply_text.is_empty()));
    }

    #[test]
    fn what_no_delivery_has_is_refused() {
        assert!(report(50_001, "@a.test").is_err());
        assert!(report(1, &"a".repeat(1024)).is_err());
    }
}
