//! One attempt at one delivery, from what the queue handed over to what it is told.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postrider_protocol::api::Queue;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{
    Attempt, Completion, Envelope, LeasedDelivery, OutcomeKind, RecipientOutcome,
};
use postrider_telemetry::trace::{MessageSpan, TraceContext};

use crate::dsn::{self, About};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::outcome::{self, Verdict};
use crate::transport::{Report, Slot};

/// Makes attempts and accounts for them.
pub(crate) struct Attempts {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) live: Live,
    pub(crate) metrics: &'static Metrics,
}

impl Attempts {
    /// Attempts a delivery, or ends it where the queue says so, and says what to tell the queue.
    pub(crate) async fn make(
        &self,
        slot: &mut dyn Slot,
        mut delivery: LeasedDelivery,
    ) -> Completion {
        let started_us = now_us();
        let envelope = delivery.envelope.take().unwrap_or_default();
        let mut span = MessageSpan::start(
            "delivery.attempt",
            &TraceContext::from_traceparent(&delivery.traceparent),
        );
        let report = match delivery.disposition() {
            Disposition::Attempt | Disposition::Unspecified => {
                slot.attempt(&delivery, &envelope, &mut span).await
            }
            disposition => ended(&delivery, &envelope, disposition),
        };
        let ended_us = now_us().max(started_us);
        let outcome = self.account(&delivery, &report, ended_us - started_us);
        if span.is_recording() {
            describe(&mut span, &delivery, &report, outcome);
        }
        let due = dsn::due(&envelope, &report.outcomes, report.reach);
        let mut notifications = Vec::new();
        if !due.is_empty() {
            let about = About {
                delivery: &delivery,
                envelope: &envelope,
                attempt: &report,
                ended_us,
                traceparent: &span.context().to_string(),
            };
            let active = self.live.load_full();
            let message = active.notifier.message(&self.queue, about, &due).await;
            tracing::info!(
                queue_id = %delivery.queue_id,
                dsn_queue_id = %message.queue_id,
                recipients = due.len(),
                "delivery status notification made"
            );
            self.metrics.dsns.increment(1);
            notifications.push(message);
        }
        Completion {
            delivery_id: delivery.delivery_id,
            token: delivery.token,
            attempt: Some(Attempt {
                destination: delivery.destination,
                number: delivery.attempt,
                started_us,
                ended_us,
                remote_host: report.remote_host,
                remote_address: report.remote_address,
                tls: report.tls,
                outcomes: report.outcomes,
                dialogue: report.dialogue,
                next_attempt_us: 0,
            }),
            dsn: notifications,
        }
    }

    /// Counts and logs; gives the word for the whole.
    fn account(&self, delivery: &LeasedDelivery, report: &Report, time_us: u64) -> &'static str {
        let transport = delivery
            .destination
            .split_once(':')
            .map_or("", |(transport, _)| transport);
        let metrics = self.metrics.of(transport);
        metrics.duration.record(time_us as f64 / 1e6);
        for outcome in &report.outcomes {
            metrics.count(outcome.kind());
        }
        let worst = worst(&report.outcomes);
        let word = worst.map_or("none", |outcome| summary(&report.outcomes, outcome.kind()));
        let count = |kind| {
            report
                .outcomes
                .iter()
                .filter(|outcome| outcome.kind() == kind)
                .count()
        };
        tracing::info!(
            queue_id = %delivery.queue_id,
            delivery = %delivery.delivery_id,
            destination = %delivery.destination,
            remote = %report.remote_host,
            attempt = delivery.attempt,
            outcome = word,
            recipients = report.outcomes.len(),
            delivered = count(OutcomeKind::Delivered),
            reply = %worst.map(outcome::line).unwrap_or_default(),
            ms = time_us / 1000,
            "attempt"
        );
        word
    }
}

/// A delivery that ends without another attempt.
fn ended(delivery: &LeasedDelivery, envelope: &Envelope, disposition: Disposition) -> Report {
    let mut report = Report::of_all(envelope, &Verdict::unknown(""));
    for (outcome, recipient) in report.outcomes.iter_mut().zip(&envelope.recipients) {
        let last = delivery
            .last_outcomes
            .iter()
            .find(|last| last.address == recipient.address)
            .map(|last| format!(" The last attempt ended with: {}", outcome::line(last)))
            .unwrap_or_default();
        let verdict = if disposition == Disposition::Expired {
            Verdict::failed(554, "5.4.7", format!("Delivery time expired.{last}"))
        } else {
            Verdict::failed(
                554,
                "5.3.0",
                format!("An operator of this mail system ended the delivery.{last}"),
            )
        };
        *outcome = verdict.on(&recipient.address);
    }
    report
}

/// The outcome that most needs a look.
fn worst(outcomes: &[RecipientOutcome]) -> Option<&RecipientOutcome> {
    outcomes.iter().max_by_key(|outcome| match outcome.kind() {
        OutcomeKind::Delivered | OutcomeKind::Unspecified => 0,
        OutcomeKind::Deferred => 1,
        OutcomeKind::Unknown => 2,
        OutcomeKind::Failed => 3,
    })
}

fn summary(outcomes: &[RecipientOutcome], kind: OutcomeKind) -> &'static str {
    if outcomes.iter().all(|outcome| outcome.kind() == kind) {
        outcome::word(kind)
    } else {
        "mixed"
    }
}

fn describe(
    span: &mut MessageSpan,
    delivery: &LeasedDelivery,
    report: &Report,
    outcome: &'static str,
) {
    span.set("postrider.queue_id", &delivery.queue_id)
        .set("postrider.delivery_id", &delivery.delivery_id)
        .set("postrider.destination", &delivery.destination)
        .set("postrider.attempt", delivery.attempt)
        .set("postrider.outcome", outcome)
        .set("postrider.recipients", report.outcomes.len());
    if !report.remote_host.is_empty() {
        span.set("server.address", &report.remote_host);
    }
    if !report.remote_address.is_empty() {
        span.set("network.peer.address", &report.remote_address);
    }
    if let Some(worst) = worst(&report.outcomes)
        && worst.kind() != OutcomeKind::Delivered
    {
        span.set("postrider.reply", outcome::line(worst))
            .error(outcome);
    }
}

/// Unix time in microseconds.
pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
}
