//! One attempt at one delivery, from what the queue handed over to what it is told.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use postrider_protocol::api::Queue;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{
    Attempt, Completion, DialogueLine, Envelope, LeasedDelivery, NewMessage, OutcomeKind,
    RecipientOutcome, dialogue_line::From,
};
use postrider_telemetry::trace::{MessageSpan, TraceContext};

use crate::cutoff::Cutoff;
use crate::dsn::{self, About, Due};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::outcome::{self, Verdict};
use crate::transport::{Report, Slot};

/// Makes attempts and accounts for them.
pub(crate) struct Attempts {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) live: Live,
    pub(crate) metrics: &'static Metrics,
    pub(crate) limiter: dsn::Limiter,
}

impl Attempts {
    /// Attempts a delivery, or ends it where the queue says so, and says what to tell the queue. Ends
    /// soon after the cutoff.
    pub(crate) async fn make(
        &self,
        slot: &mut dyn Slot,
        mut delivery: LeasedDelivery,
        cutoff: &Cutoff,
    ) -> Completion {
        let started_us = now_us();
        let envelope = delivery.envelope.take().unwrap_or_default();
        let mut span = MessageSpan::start(
            "delivery.attempt",
            &TraceContext::from_traceparent(&delivery.traceparent),
        );
        let mut report = match delivery.disposition() {
            Disposition::Attempt | Disposition::Unspecified => {
                let attempt = slot.attempt(&delivery, &envelope, &mut span);
                match AssertUnwindSafe(attempt).catch_unwind().await {
                    Ok(report) => report,
                    Err(_) => {
                        slot.abandon();
                        panicked(&delivery, &envelope)
                    }
                }
            }
            disposition => ended(&delivery, &envelope, disposition),
        };
        outcome::shorten(&mut report.outcomes);
        let ended_us = now_us().max(started_us);
        let outcome = self.account(&delivery, &report, ended_us - started_us);
        if span.is_recording() {
            describe(&mut span, &delivery, &report, outcome);
        }
        // Asked for once: whoever wants no warning is not asked again.
        let delayed = delivery.delay_warning_due
            && report.outcomes.iter().any(|one| dsn::is_open(one.kind()));
        let due = dsn::due(&envelope, &report.outcomes, report.reach, delayed);
        let mut notifications = Vec::new();
        if !due.is_empty() {
            let about = About {
                delivery: &delivery,
                envelope: &envelope,
                attempt: &report,
                ended_us,
                traceparent: &span.context().to_string(),
            };
            // Boxed: few attempts need the space.
            match Box::pin(self.notify(about, &due, cutoff)).await {
                Some(message) => notifications.push(message),
                None => report.dialogue.push(withheld(&envelope.reverse_path)),
            }
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
            delay_warned: delayed,
        }
    }

    /// Makes the DSN that is due; `None` if its reader has got too many.
    async fn notify(
        &self,
        about: About<'_>,
        due: &[Due<'_>],
        cutoff: &Cutoff,
    ) -> Option<NewMessage> {
        let queue_id = &about.delivery.queue_id;
        let active = self.live.load_full();
        let to = &about.envelope.reverse_path;
        let limits = &active.config.dsn;
        let period = limits.limit_period.0;
        if !(self.limiter).allows(to, limits.limit, period, Instant::now()) {
            self.metrics.dsns_withheld.increment(1);
            tracing::warn!(
                %queue_id,
                recipients = due.len(),
                "a delivery status notification is withheld: its reader has got too many"
            );
            return None;
        }
        let notifier = &active.notifier;
        let message = notifier.message(&self.queue, about, due, cutoff).await;
        self.metrics.dsns.increment(1);
        tracing::info!(
            %queue_id,
            dsn_queue_id = %message.queue_id,
            recipients = due.len(),
            "delivery status notification made"
        );
        Some(message)
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

/// What the journey says of a DSN that was not made.
fn withheld(reader: &str) -> DialogueLine {
    DialogueLine {
        from: From::Note.into(),
        text: format!("no notification is sent: <{reader}> has got as many as it may"),
        at_us: 0,
    }
}

/// A mistake of ours costs one attempt and nobody else's mail. Nobody knows how far it came.
fn panicked(delivery: &LeasedDelivery, envelope: &Envelope) -> Report {
    tracing::error!(
        queue_id = %delivery.queue_id,
        delivery = %delivery.delivery_id,
        "an attempt panicked; its outcome counts as unknown"
    );
    let text = "An internal error of this mail system interrupted the attempt";
    let unknown = Verdict {
        status: "4.3.0".to_owned(),
        ..Verdict::unknown(text)
    };
    Report::of_all(envelope, &unknown)
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
