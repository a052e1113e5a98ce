//! Counting what an act or a suspension would touch.

use std::time::{Duration, Instant};

use postrider_protocol::queue_v1::{ActResponse, Filter};
use postrider_protocol::{DeliveryId, Status};

use super::request::Wanted;
use super::{PAGE, SAMPLE, status};
use crate::store::Store;

/// How long a preview counts.
const LONGEST: Duration = Duration::from_secs(30);

/// Deliveries that match.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) matched: u64,
    /// Queue ids of the first.
    pub(crate) sample: Vec<String>,
    /// There are more.
    pub(crate) more: bool,
}

/// Counts what matches, for at most so long, a page at a time.
pub(crate) async fn count(
    store: &dyn Store,
    filter: &Filter,
    longest: Duration,
) -> Result<Counted, Status> {
    let began = Instant::now();
    let mut counted = Counted::default();
    let mut after: Option<DeliveryId> = None;
    loop {
        let page = store.list(filter, after, PAGE).await.map_err(status)?;
        counted.matched += page.len() as u64;
        after = page.last().and_then(|last| last.delivery_id.parse().ok());
        let is_last = page.len() < PAGE || after.is_none();
        for delivery in page {
            add(&mut counted.sample, delivery.queue_id);
        }
        if is_last {
            return Ok(counted);
        }
        if began.elapsed() >= longest {
            counted.more = true;
            return Ok(counted);
        }
        tokio::task::yield_now().await;
    }
}

/// Adds a message to a sample, once and while there is room.
pub(super) fn add(sample: &mut Vec<String>, queue_id: String) {
    if sample.len() < SAMPLE && sample.last() != Some(&queue_id) {
        sample.push(queue_id);
    }
}

/// What an act would touch.
pub(super) async fn of(store: &dyn Store, wanted: &Wanted) -> Result<ActResponse, Status> {
    let counted = count(store, &wanted.filter, LONGEST).await?;
    Ok(ActResponse {
        matched: counted.matched,
        sample: counted.sample,
        done: !counted.more,
        ..ActResponse::default()
    })
}
