//! Delivery status notifications: who is told what (RFC 3461), as a message that becomes
//! durable together with the outcome that it tells of.
//!
//! [`due`] decides, [`limit`] may object, [`report`] writes ([`text`] for people), [`returned`] picks
//! what of the original goes back.

mod field;
mod limit;
mod report;
mod returned;
mod text;

use std::sync::Arc;

use postrider_config::ServerConfig;
use postrider_protocol::api::Queue;
use postrider_protocol::destination::{MAILBOX, SMTP};
use postrider_protocol::queue_v1::{
    Body, DsnReturn, Envelope, JourneyEvent, LeasedDelivery, NewMessage, Notice, Origin,
    OutcomeKind, Recipient, RecipientOutcome, body, journey_event,
};
use postrider_protocol::{Destination, QueueId};
use postrider_smtp::address::Address;

use crate::config::DsnConfig;
use crate::cutoff::Cutoff;
use crate::transport::Report;

pub(crate) use limit::Limiter;

/// NOTIFY of RFC 3461 as bits of `Recipient.dsn_notify`.
const NEVER: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 4;
const DELAY: u32 = 8;

/// What a DSN says of a recipient (RFC 3464 section 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Failed,
    /// It was not delivered for long, and is tried again.
    Delayed,
    /// It is in the mailbox.
    Delivered,
    /// It is at a server that sends no DSNs; no more will be heard.
    Relayed,
}

/// One recipient of which a DSN is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due<'a> {
    pub(crate) recipient: &'a Recipient,
    pub(crate) outcome: &'a RecipientOutcome,
    pub(crate) action: Action,
}

/// How far the mail went when it was delivered, as far as DSNs are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Into the mailbox.
    Final,
    /// To a server that took the duty to send DSNs over.
    PassedOn,
    /// To a server that knows no DSNs.
    Relayed,
}

/// Of which recipients a DSN is due. None ever is for a message that has the null reverse-path. With
/// `late`, it is time to tell of a delay.
pub(crate) fn due<'a>(
    envelope: &'a Envelope,
    outcomes: &'a [RecipientOutcome],
    reach: Reach,
    late: bool,
) -> Vec<Due<'a>> {
    if envelope.reverse_path.is_empty() {
        return Vec::new();
    }
    envelope
        .recipients
        .iter()
        .zip(outcomes)
        .filter_map(|(recipient, outcome)| {
            // An absent NOTIFY stands for FAILURE, and for DELAY as the server likes (RFC 3461
            // section 4.1).
            let wants = |bit| match recipient.dsn_notify {
                0 => bit == FAILURE || bit == DELAY,
                notify => notify & NEVER == 0 && notify & bit != 0,
            };
            let action = match (outcome.kind(), reach) {
                (OutcomeKind::Failed, _) if wants(FAILURE) => Action::Failed,
                (kind, _) if late && is_open(kind) && wants(DELAY) => Action::Delayed,
                (OutcomeKind::Delivered, Reach::Final) if wants(SUCCESS) => Action::Delivered,
                (OutcomeKind::Delivered, Reach::Relayed) if wants(SUCCESS) => Action::Relayed,
                _ => return None,
            };
            Some(Due {
                recipient,
                outcome,
                action,
            })
        })
        .collect()
}

/// Whether an outcome leaves its recipient for another attempt.
pub(crate) fn is_open(kind: OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Deferred | OutcomeKind::Unknown)
}

/// Makes DSNs.
pub(crate) struct Notifier {
    hostname: String,
    domains: Vec<String>,
    from: String,
    contact: String,
    config: DsnConfig,
    instance: String,
}

/// What a DSN is about, besides the recipients.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) delivery: &'a LeasedDelivery,
    pub(crate) envelope: &'a Envelope,
    pub(crate) attempt: &'a Report,
    /// When the attempt ended, Unix time in microseconds.
    pub(crate) ended_us: u64,
    /// Trace context for the new message.
    pub(crate) traceparent: &'a str,
}

impl Notifier {
    pub(crate) fn new(server: &ServerConfig, config: &DsnConfig, instance: &str) -> Self {
        let or = |value: &str, user: &str| {
            if value.is_empty() {
                format!("{user}@{}", server.hostname)
            } else {
                value.to_owned()
            }
        };
        Self {
            hostname: server.hostname.clone(),
            domains: server.domains.clone(),
            from: or(&config.from, "MAILER-DAEMON"),
            contact: or(&config.contact, "postmaster"),
            config: config.clone(),
            instance: instance.to_owned(),
        }
    }

    /// The message for what is due. After the cutoff nothing is waited for, and it is made without the
    /// original.
    pub(crate) async fn message(
        &self,
        queue: &Arc<dyn Queue>,
        about: About<'_>,
        due: &[Due<'_>],
        cutoff: &Cutoff,
    ) -> NewMessage {
        let failed = due.iter().any(|due| due.action == Action::Failed);
        // RFC 3461 section 4.3: the content goes back only with news of a failure.
        let whole = failed && about.envelope.dsn_return() == DsnReturn::Full;
        let body = about.delivery.body.as_ref();
        let original = returned::of(queue, body, whole, &self.config, cutoff).await;
        let id = QueueId::new();
        let report = report::Report {
            notifier: self,
            id,
            about,
            due,
            original: &original,
        };
        let content = report.write();
        let message_id = report.message_id();
        let to = about.envelope.reverse_path.clone();
        NewMessage {
            queue_id: id.to_string(),
            envelope: Some(Envelope {
                reverse_path: String::new(),
                smtputf8: !to.is_ascii(),
                eight_bit_mime: !content.is_ascii(),
                recipients: vec![Recipient {
                    destination: self.destination(&to).to_string(),
                    address: to,
                    dsn_orcpt: String::new(),
                    dsn_notify: NEVER,
                }],
                ..Envelope::default()
            }),
            body: Some(Body {
                size: content.len() as u64,
                content: Some(body::Content::Inline(content.into())),
            }),
            message_id,
            traceparent: about.traceparent.to_owned(),
            origin: Some(Origin {
                role: "dsn".to_owned(),
                ..Origin::default()
            }),
            events: vec![JourneyEvent {
                time_us: about.ended_us,
                instance: self.instance.clone(),
                what: Some(journey_event::What::Notice(Notice {
                    text: format!(
                        "made to tell the sender of message {}",
                        about.delivery.queue_id
                    ),
                    ..Notice::default()
                })),
            }],
            // It is part of the sender's traffic, and as urgent as what it tells of.
            tenant: about.delivery.tenant.clone(),
            priority: about.delivery.priority,
            release_us: 0,
        }
    }

    fn destination(&self, address: &str) -> Destination {
        // An address that is none was never accepted; if it is here all the same, its DSN
        // goes to this system's own domain, where somebody may see it.
        let address = Address::parse(address).ok();
        let domain = address
            .as_ref()
            .map_or(self.hostname.as_str().into(), Address::domain_ascii);
        let here = self
            .domains
            .iter()
            .any(|own| own.eq_ignore_ascii_case(&domain));
        Destination::new(if here { MAILBOX } else { SMTP }, &domain)
    }
}

#[cfg(test)]
mod tests;
