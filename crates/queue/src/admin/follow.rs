//! Journeys, as they are and as they go on.

use std::sync::Arc;

use postrider_protocol::queue_v1::{Journey, JourneyEvent};
use postrider_protocol::{QueueId, Status, api};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::status;
use crate::store::{Find, Store, Wake};

/// Journeys that a Message-ID can bring.
const JOURNEYS: usize = 20;
/// RFC 5322 section 2.1.1: no Message-ID is longer than a line may be.
const LONGEST_QUERY: usize = 1000;

/// Sends what happened and then what happens, until the message has ended or nobody listens.
pub(super) async fn follow(
    store: Arc<dyn Store>,
    id: QueueId,
    events: mpsc::Sender<api::Result<JourneyEvent>>,
) {
    // Listen first, so that nothing falls in between.
    let mut wakes = store.watch();
    let mut told = 0;
    loop {
        let journey = match store.journey(id).await {
            Ok(Some(journey)) => journey,
            Ok(None) => Journey {
                ended: true,
                ..Journey::default()
            },
            Err(error) => {
                events.send(Err(status(error))).await.ok();
                return;
            }
        };
        for event in journey.events.into_iter().skip(told) {
            told += 1;
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if journey.ended {
            return;
        }
        loop {
            let wake = tokio::select! {
                wake = wakes.recv() => wake,
                () = events.closed() => return,
            };
            match wake {
                Ok(Wake::Journey(changed)) if changed == id => break,
                Ok(Wake::Everything) | Err(RecvError::Lagged(_)) => break,
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// The messages that a query names: by queue id, or by Message-ID with or without brackets.
pub(super) async fn ids(store: &dyn Store, query: &str) -> api::Result<Vec<QueueId>> {
    let query = query.trim();
    if query.is_empty() || query.len() > LONGEST_QUERY {
        return Err(Status::invalid_argument(
            "neither a queue id nor a Message-ID",
        ));
    }
    if let Ok(id) = query.parse() {
        return Ok(vec![id]);
    }
    let message_id = query
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(query);
    store
        .find(&Find::MessageId(message_id.to_owned()), JOURNEYS)
        .await
        .map_err(status)
}
