//! One mail transaction: what is known of a message between MAIL and the reply to its end.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{
    Body, DialogueLine, DsnReturn, Envelope, JourneyEvent, NewMessage, Notice, Origin, Received,
    Recipient, dialogue_line::From, journey_event::What,
};
use postrider_smtp::datetime::DateTime;
use postrider_smtp::envelope as smtp;
use postrider_smtp::outline::{Outline, Speaker};
use postrider_smtp::reply::Reply;
use postrider_telemetry::trace::{MessageSpan, SpanKind, TraceContext};
use tokio::time::Instant;

use crate::domains::Routed;
use crate::intake::Intake;
use crate::policy::Existence;

/// A transaction under way.
pub(crate) struct Transaction {
    /// The message's one name, from the start.
    pub(crate) id: QueueId,
    pub(crate) began: Instant,
    pub(crate) span: MessageSpan,
    /// SIZE of MAIL.
    pub(crate) expected: Option<u64>,
    /// What else MAIL asked for.
    pub(crate) wishes: Wishes,
    /// The recipients that were accepted, in the envelope's order.
    pub(crate) routed: Vec<Routed>,
    /// What the directory said of recipients that the client has named so far.
    pub(crate) known: HashMap<String, Existence>,
    /// Since when content arrives, and what has arrived.
    pub(crate) content: Option<Arrival>,
    /// What the end of the content will be told, if that is known before.
    pub(crate) refusal: Option<Reply>,
}

/// What a client asked for at MAIL, as the queue takes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Not to be sent before, Unix time in microseconds; 0 for at once.
    pub(crate) release_us: u64,
    /// From -9 to 9.
    pub(crate) priority: i32,
}

impl Wishes {
    pub(crate) fn of(parameters: &smtp::MailParameters, now_us: u64) -> Self {
        let release_us = match parameters.hold {
            None => 0,
            Some(smtp::Hold::For(seconds)) => now_us + u64::from(seconds) * 1_000_000,
            Some(smtp::Hold::Until(moment)) => moment.0.saturating_mul(1_000_000),
        };
        Self {
            // What was to be sent before now is sent now.
            release_us: if release_us > now_us { release_us } else { 0 },
            priority: parameters.priority.get().into(),
        }
    }
}

/// Content on its way.
pub(crate) struct Arrival {
    pub(crate) began: Instant,
    pub(crate) intake: Intake,
    /// The trace line, made when the content began.
    pub(crate) received: String,
    /// Message-ID without angle brackets.
    pub(crate) message_id: String,
}

impl Transaction {
    pub(crate) fn new(parameters: &smtp::MailParameters) -> Self {
        let mut span = MessageSpan::start("smtp.transaction", &TraceContext::new_root());
        span.kind(SpanKind::Server);
        Self {
            id: QueueId::new(),
            began: Instant::now(),
            span,
            expected: parameters.size,
            wishes: Wishes::of(parameters, unix_us(SystemTime::now())),
            routed: Vec::new(),
            known: HashMap::new(),
            content: None,
            refusal: None,
        }
    }

    /// The message as the queue takes it.
    pub(crate) fn message(&self, parts: &Parts<'_>) -> NewMessage {
        let event = |what| JourneyEvent {
            time_us: unix_us(SystemTime::now()),
            instance: parts.instance.to_owned(),
            what: Some(what),
        };
        let mut events = vec![event(What::Received(Received {
            origin: Some(parts.origin.clone()),
            dialogue: dialogue(parts.outline),
        }))];
        if self.wishes.release_us > 0 {
            // Rounded up, like everything that must not happen too early.
            let until = DateTime(self.wishes.release_us.div_ceil(1_000_000));
            events.push(event(What::Notice(Notice {
                text: format!("to be sent at {until} and not before, as its sender wishes"),
                ..Notice::default()
            })));
        }
        NewMessage {
            queue_id: self.id.to_string(),
            envelope: Some(envelope(parts.envelope, &self.routed)),
            body: Some(parts.body.clone()),
            message_id: parts.message_id.to_owned(),
            traceparent: self.span.context().to_string(),
            origin: Some(parts.origin.clone()),
            events,
            tenant: parts.tenant.to_owned(),
            priority: self.wishes.priority,
            release_us: self.wishes.release_us,
        }
    }
}

/// What a message is made of, besides its transaction.
pub(crate) struct Parts<'a> {
    pub(crate) envelope: &'a smtp::Envelope,
    pub(crate) body: &'a Body,
    pub(crate) message_id: &'a str,
    pub(crate) origin: &'a Origin,
    pub(crate) outline: &'a Outline,
    /// Whose mail it is; empty for nobody's in particular.
    pub(crate) tenant: &'a str,
    /// Names this process.
    pub(crate) instance: &'a str,
}

/// An envelope as the queue takes it, each recipient with its destination.
fn envelope(envelope: &smtp::Envelope, routed: &[Routed]) -> Envelope {
    let parameters = &envelope.parameters;
    let recipient = |(recipient, routed): (&smtp::Recipient, &Routed)| Recipient {
        address: routed.address.clone(),
        destination: routed.destination.as_str().to_owned(),
        dsn_orcpt: text(recipient.parameters.orcpt.as_deref()),
        dsn_notify: recipient.parameters.notify.bits().into(),
    };
    Envelope {
        reverse_path: envelope.reverse_path.as_str().to_owned(),
        recipients: envelope
            .recipients
            .iter()
            .zip(routed)
            .map(recipient)
            .collect(),
        smtputf8: parameters.smtputf8,
        eight_bit_mime: parameters.eight_bit_mime,
        dsn_envid: text(parameters.envid.as_deref()),
        dsn_return: match parameters.ret {
            None => DsnReturn::Unspecified,
            Some(smtp::DsnReturn::Full) => DsnReturn::Full,
            Some(smtp::DsnReturn::Headers) => DsnReturn::Headers,
        }
        .into(),
    }
}

/// An outline as the journey keeps it.
fn dialogue(outline: &Outline) -> Vec<DialogueLine> {
    outline
        .lines()
        .map(|line| DialogueLine {
            from: match line.speaker {
                Speaker::Client => From::Client,
                Speaker::Server => From::Server,
                Speaker::Note => From::Note,
            }
            .into(),
            text: line.text.to_owned(),
            at_us: line.at_us,
        })
        .collect()
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

/// Microseconds since 1970.
pub(crate) fn unix_us(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_moments_to_come() {
        let wish = |hold| {
            let parameters = smtp::MailParameters {
                hold,
                ..smtp::MailParameters::default()
            };
            Wishes::of(&parameters, 10_500_000).release_us
        };
        assert_eq!(wish(None), 0);
        assert_eq!(wish(Some(smtp::Hold::For(2))), 12_500_000);
        assert_eq!(wish(Some(smtp::Hold::Until(DateTime(11)))), 11_000_000);
        assert_eq!(wish(Some(smtp::Hold::Until(DateTime(10)))), 0);
        assert_eq!(wish(Some(smtp::Hold::Until(DateTime(u64::MAX)))), u64::MAX);
    }
}
