//! The records of acts in the store.

use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::queue_v1::ActRecord;
use prost::Message as _;

use super::is_over;
use crate::store::{Record, Store, StoreError};

/// What the records are called in the store.
const KIND: &str = "act";
/// Acts that are remembered.
const MOST: usize = 1000;
/// How long an act is remembered after its beginning.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// A record as it was read.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) record: ActRecord,
    pub(super) version: u64,
}

/// All acts that are remembered.
pub(super) struct Ledger {
    store: Arc<dyn Store>,
}

impl Ledger {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// All of them, the oldest first.
    pub(super) async fn all(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = self
            .store
            .records(KIND)
            .await?
            .into_iter()
            .filter_map(|record| read(&record))
            .collect();
        // Ids sort by time.
        entries.sort_by(|a, b| a.record.act_id.cmp(&b.record.act_id));
        Ok(entries)
    }

    /// One of them.
    pub(super) async fn get(&self, act_id: &str) -> Result<Option<Entry>, StoreError> {
        let records = self.store.records(KIND).await?;
        Ok(records
            .iter()
            .find(|record| record.key == act_id)
            .and_then(read))
    }

    /// Writes a new one down, and forgets those whose time is over.
    pub(super) async fn create(&self, record: ActRecord) -> Result<Entry, StoreError> {
        self.forget_old(record.created_us).await?;
        let mut entry = Entry { record, version: 0 };
        match self.save(&mut entry).await? {
            true => Ok(entry),
            false => Err(StoreError::Unavailable(
                "an act with this id is there already".to_owned(),
            )),
        }
    }

    /// Writes a change down. False if somebody else has changed it since it was read.
    pub(super) async fn save(&self, entry: &mut Entry) -> Result<bool, StoreError> {
        let saved = self
            .store
            .put_record(Record {
                kind: KIND.to_owned(),
                key: entry.record.act_id.clone(),
                version: entry.version + 1,
                value: entry.record.encode_to_vec().into(),
            })
            .await?;
        if saved {
            entry.version += 1;
        }
        Ok(saved)
    }

    async fn forget_old(&self, now_us: u64) -> Result<(), StoreError> {
        let entries = self.all().await?;
        let keep_us = crate::store::clock::micros(KEEP);
        let mut surplus = (entries.len() + 1).saturating_sub(MOST);
        for entry in entries {
            let record = &entry.record;
            if !is_over(record.state()) {
                continue;
            }
            if surplus > 0 || record.created_us.saturating_add(keep_us) < now_us {
                surplus = surplus.saturating_sub(1);
                self.store.delete_record(KIND, &record.act_id).await?;
            }
        }
        Ok(())
    }
}

fn read(record: &Record) -> Option<Entry> {
    match ActRecord::decode(record.value.clone()) {
        Ok(act) => Some(Entry {
            record: act,
            version: record.version,
        }),
        Err(error) => {
            tracing::error!(act = record.key, %error, "the record of an act cannot be read");
            None
        }
    }
}
