//! Messages, addresses and names out of numbers.

use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Body, Envelope, JourneyEvent, NewMessage, Origin, Received, Recipient, body, journey_event,
};
use postrider_protocol::{Destination, QueueId};

use crate::operation::{NewSpec, Place, Who};
use crate::subject::BEGIN_US;

pub(crate) fn destination(domain: u8) -> Destination {
    let transport = if domain == 3 { "mailbox" } else { "smtp" };
    Destination::new(transport, &format!("d{domain}.test"))
}

pub(super) fn address(user: u8, domain: u8) -> String {
    format!("u{user}@d{domain}.test")
}

pub(super) fn sender(number: u8) -> String {
    match number {
        0 => String::new(),
        number => format!("Sender{number}@example.org"),
    }
}

pub(super) fn message_id(number: u8) -> String {
    match number {
        0 => String::new(),
        number => format!("m{number}@example.org"),
    }
}

pub(super) fn tenant(number: u8) -> String {
    match number {
        0 => String::new(),
        number => format!("t{number}"),
    }
}

pub(super) fn place(place: Place) -> String {
    match place {
        Place::One(domain) => destination(domain).to_string(),
        Place::Below => "smtp:*.test".to_owned(),
        Place::Transport => "mailbox:*".to_owned(),
        Place::All => "*".to_owned(),
    }
}

/// In a case that nobody used.
pub(super) fn who(who: Who) -> String {
    match who {
        Who::Null => "<>".to_owned(),
        Who::Sender(number) => sender(number).to_uppercase(),
        Who::SenderDomain => "@EXAMPLE.org".to_owned(),
        Who::Recipient(user, domain) => address(user, domain).to_uppercase(),
        Who::RecipientDomain(domain) => format!("@D{domain}.test"),
    }
}

pub(super) fn message(spec: &NewSpec, now_us: u64) -> NewMessage {
    let id = QueueId::from_u128(spec.id);
    let content = match spec.stored {
        Some(name) => body::Content::Stored(format!("body-{name}")),
        None => body::Content::Inline(Bytes::from(format!("Content of {id}.\r\n"))),
    };
    let recipients = spec.recipients.iter().map(|(user, domain)| Recipient {
        address: address(*user, *domain),
        destination: destination(*domain).to_string(),
        dsn_orcpt: format!("rfc822;u{user}"),
        dsn_notify: 4,
    });
    NewMessage {
        queue_id: id.to_string(),
        envelope: Some(Envelope {
            reverse_path: sender(spec.sender),
            recipients: recipients.collect(),
            eight_bit_mime: true,
            ..Envelope::default()
        }),
        body: Some(Body {
            size: 40,
            content: Some(content),
        }),
        message_id: message_id(spec.message_id),
        traceparent: format!("00-{:032x}-00000000000000aa-01", spec.id),
        origin: Some(Origin {
            role: "mx".to_owned(),
            ..Origin::default()
        }),
        events: vec![JourneyEvent {
            time_us: BEGIN_US,
            instance: "edge@model".to_owned(),
            what: Some(journey_event::What::Received(Received::default())),
        }],
        tenant: tenant(spec.tenant),
        priority: spec.priority,
        release_us: spec.release_ms.map_or(0, |ms| now_us + ms * 1000),
    }
}
