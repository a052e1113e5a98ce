//! What the tests of both stores share.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod redis_cluster;
pub mod redis_server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Attempt, Body, Envelope, Filter, NewMessage, OutcomeKind, Recipient, RecipientOutcome, body,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::{Act, By, Completion, LeaseRequest, Store, StoreSettings};

pub fn settings() -> StoreSettings {
    StoreSettings {
        lease: Duration::from_secs(10),
        slots_per_destination: 4,
        policies: Arc::default(),
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
        delay_warned: false,
        worker: "delivery@test".to_owned(),
    }
}

/// What an act touched.
#[derive(Debug, Default)]
pub struct Acted {
    pub matched: u64,
    pub changed: u64,
    pub sample: Vec<QueueId>,
}

/// Acts on all that a filter matches, as the service does; with `preview` only counts.
pub async fn act(store: &dyn Store, act: Act, filter: &Filter, by: &By, preview: bool) -> Acted {
    let mut acted = Acted::default();
    let mut after = None;
    loop {
        let page = store.list(filter, after, 1000).await.unwrap();
        let ids: Vec<DeliveryId> = page
            .iter()
            .map(|delivery| delivery.delivery_id.parse().unwrap())
            .collect();
        let Some(last) = ids.last() else {
            return acted;
        };
        after = Some(*last);
        acted.matched += ids.len() as u64;
        for id in &ids {
            if acted.sample.len() < 100 && acted.sample.last() != Some(&id.queue_id) {
                acted.sample.push(id.queue_id);
            }
        }
        if !preview {
            let changed = store.act(&act, &ids, by).await.unwrap();
            acted.changed += changed.iter().filter(|changed| **changed).count() as u64;
        }
    }
}
