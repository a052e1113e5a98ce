//! Takes over acts that their instance has left.
//!
//! Nobody's clock is compared with anybody else's: an act whose record has not changed for as long
//! as this process has watched is left. Only while there is an unfinished one does the caretaker look
//! by itself; else it waits until a record changes.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ledger::Entry;
use super::{Context, is_over, job};
use crate::store::StoreError;

/// While the store does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Unfinished acts of others: the version last seen, and since when.
type Watched = HashMap<String, (u64, Instant)>;

/// Runs until the acts stop.
pub(super) async fn run(with: Arc<Context>, records: Arc<Notify>) {
    let mut watched = Watched::new();
    loop {
        let next = match look(&with, &mut watched).await {
            Ok(next) => next,
            Err(error) => {
                tracing::debug!(%error, "acts cannot be looked at");
                Some(Instant::now() + AGAIN)
            }
        };
        let look_again = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => records.notified().await,
            }
        };
        tokio::select! {
            () = look_again => {}
            () = with.stop.cancelled() => return,
        }
    }
}

/// Looks at all acts. Returns when to look again, if any is unfinished and another's.
async fn look(with: &Arc<Context>, watched: &mut Watched) -> Result<Option<Instant>, StoreError> {
    let now = Instant::now();
    let mut entries = with.ledger.all().await?;
    entries.retain(|entry| {
        !is_over(entry.record.state()) && !with.running().contains_key(&entry.record.act_id)
    });
    watched.retain(|id, _| entries.iter().any(|entry| entry.record.act_id == *id));
    let mut next = None;
    for entry in entries {
        let id = entry.record.act_id.clone();
        let (version, since) = *watched.entry(id.clone()).or_insert((entry.version, now));
        let silent = version == entry.version && now >= since + with.patience;
        if silent || entry.record.instance.is_empty() {
            watched.remove(&id);
            adopt(with, entry).await?;
            continue;
        }
        let since = match version == entry.version {
            true => since,
            false => now,
        };
        watched.insert(id, (entry.version, since));
        let at = since + with.patience;
        next = Some(next.map_or(at, |next: Instant| next.min(at)));
    }
    Ok(next)
}

async fn adopt(with: &Arc<Context>, mut entry: Entry) -> Result<(), StoreError> {
    let before = std::mem::replace(&mut entry.record.instance, with.instance.clone());
    entry.record.alive_us = with.store.now_us().await?;
    // Another one may be faster.
    if with.ledger.save(&mut entry).await? {
        tracing::info!(
            act = entry.record.act_id,
            before,
            "an act that was left goes on here"
        );
        job::spawn(with, entry);
    }
    Ok(())
}
