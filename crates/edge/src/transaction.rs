//! One mail transaction: what is known of a message between MAIL and the reply to its end.

use std::time::{SystemTime, UNIX_EPOCH};

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{
    Body, DialogueLine, DsnReturn, Envelope, JourneyEvent, NewMessage, Origin, Received, Recipient,
    dialogue_line::From, journey_event::What,
};
use postrider_smtp::envelope as smtp;
use postrider_smtp::outline::{Outline, Speaker};
use postrider_smtp::reply::Reply;
use postrider_telemetry::trace::{MessageSpan, SpanKind, TraceContext};
use tokio::time::Instant;

use crate::domains::Domains;
use crate::intake::Intake;

/// A transaction under way.
pub(crate) struct Transaction {
    /// The message's one name, from the start.
    pub(crate) id: QueueId,
    pub(crate) began: Instant,
    pub(crate) span: MessageSpan,
    /// SIZE of MAIL.
    pub(crate) expected: Option<u64>,
    /// Since when content arrives, and what has arrived.
    pub(crate) content: Option<Arrival>,
    /// What the end of the content will be told, if that is known before.
    pub(crate) refusal: Option<Reply>,
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
    pub(crate) fn new(expected: Option<u64>) -> Self {
        let mut span = MessageSpan::start("smtp.transaction", &TraceContext::new_root());
        span.kind(SpanKind::Server);
        Self {
            id: QueueId::new(),
            began: Instant::now(),
            span,
            expected,
            content: None,
            refusal: None,
        }
    }

    /// The message as the queue takes it.
    pub(crate) fn message(&self, parts: &Parts<'_>) -> NewMessage {
        let received = Received {
            origin: Some(parts.origin.clone()),
            dialogue: dialogue(parts.outline),
        };
        NewMessage {
            queue_id: self.id.to_string(),
            envelope: Some(envelope(parts.envelope, parts.domains)),
            body: Some(parts.body.clone()),
            message_id: parts.message_id.to_owned(),
            traceparent: self.span.context().to_string(),
            origin: Some(parts.origin.clone()),
            events: vec![JourneyEvent {
                time_us: unix_us(SystemTime::now()),
                instance: parts.instance.to_owned(),
                what: Some(What::Received(received)),
            }],
        }
    }
}

/// What a message is made of, besides its transaction.
pub(crate) struct Parts<'a> {
    pub(crate) envelope: &'a smtp::Envelope,
    pub(crate) domains: &'a Domains,
    pub(crate) body: &'a Body,
    pub(crate) message_id: &'a str,
    pub(crate) origin: &'a Origin,
    pub(crate) outline: &'a Outline,
    /// Names this process.
    pub(crate) instance: &'a str,
}

/// An envelope as the queue takes it, each recipient with its destination.
fn envelope(envelope: &smtp::Envelope, domains: &Domains) -> Envelope {
    let parameters = &envelope.parameters;
    let recipient = |recipient: &smtp::Recipient| {
        let routed = domains.route(&recipient.path);
        Recipient {
            address: routed.address,
            destination: routed.destination.as_str().to_owned(),
            dsn_orcpt: text(recipient.parameters.orcpt.as_deref()),
            dsn_notify: recipient.parameters.notify.bits().into(),
        }
    };
    Envelope {
        reverse_path: envelope.reverse_path.as_str().to_owned(),
        recipients: envelope.recipients.iter().map(recipient).collect(),
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
fn unix_us(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
