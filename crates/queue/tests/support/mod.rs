//! What the tests of both stores share.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod redis_server;

use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Attempt, Body, Envelope, NewMessage, OutcomeKind, Recipient, RecipientOutcome, body,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::{Completion, LeaseRequest, StoreSettings};

pub fn settings() -> StoreSettings {
    StoreSettings {
        lease: Duration::from_secs(10),
        slots_per_destination: 4,
        lifetime: Duration::from_secs(5 * 24 * 3600),
        journey_retention: Duration::from_secs(3600),
        instance: "queue@test".to_owned(),
    }
}

/// A message with a body of so many bytes to these recipients: address, destination.
pub fn message(id: QueueId, size: usize, to: &[(&str, &str)]) -> NewMessage {
    NewMessage {
        queue_id: id.to_string(),
        envelope: Some(Envelope {
            reverse_path: "sender@example.org".to_owned(),
            recipients: to
                .iter()
                .map(|(address, destination)| Recipient {
                    address: (*address).to_owned(),
                    destination: (*destination).to_owned(),
                    ..Recipient::default()
                })
                .collect(),
            ..Envelope::default()
        }),
        body: Some(Body {
            size: size as u64,
            content: Some(body::Content::Inline(Bytes::from(vec![b'x'; size]))),
        }),
        message_id: format!("{id}@example.org"),
        ..NewMessage::default()
    }
}

pub fn worker(name: &str, slots: u32) -> LeaseRequest {
    LeaseRequest {
        worker: name.to_owned(),
        transports: vec!["smtp".to_owned(), "mailbox".to_owned()],
        slots,
    }
}

pub fn outcome(address: &str, kind: OutcomeKind) -> RecipientOutcome {
    RecipientOutcome {
        address: address.to_owned(),
        kind: kind.into(),
        reply_code: 250,
        ..RecipientOutcome::default()
    }
}

pub fn completion(
    delivery: DeliveryId,
    token: u64,
    number: u32,
    outcomes: Vec<RecipientOutcome>,
) -> Completion {
    Completion {
        delivery,
        token,
        attempt: Attempt {
            destination: "smtp:example.org".to_owned(),
            number,
            outcomes,
            ..Attempt::default()
        },
        retry_after: Duration::from_secs(300),
        dsn: Vec::new(),
    }
}
