//! Records that the service keeps in the store.

use bytes::Bytes;

use super::EmbeddedStore;
use super::core::{Core, Shared};
use super::frame::{Draft, Kind, Location};
use super::kept;
use super::record::Keep;
use crate::store::{Record, StoreError};

/// Bytes of a record's value.
const MOST_VALUE: usize = 64 << 10;

impl EmbeddedStore {
    /// See [`crate::store::Store::put_record`]. Waits for the disk.
    pub(super) fn put(shared: &Shared, record: Record) -> Result<bool, StoreError> {
        check(&record)?;
        let commit = {
            let mut core = shared.lock();
            let there = core.state.keeping.version(&record.kind, &record.key);
            if there.checked_add(1) != Some(record.version) {
                return Ok(false);
            }
            core.keep(record.into(), shared.now_us())?;
            shared.commit(&mut core)
        };
        commit.wait()?;
        Ok(true)
    }

    /// See [`crate::store::Store::delete_record`]. Waits for the disk.
    pub(super) fn delete(shared: &Shared, kind: &str, key: &str) -> Result<(), StoreError> {
        let commit = {
            let mut core = shared.lock();
            if core.state.keeping.version(kind, key) > 0 {
                core.keep(kept::gone(kind, key), shared.now_us())?;
            }
            // Somebody else's deletion may not be durable yet.
            shared.commit(&mut core)
        };
        commit.wait()
    }
}

fn check(record: &Record) -> Result<(), StoreError> {
    let invalid = |problem: &str| Err(StoreError::Invalid(problem.to_owned()));
    let kind = record.kind.as_bytes();
    // What the store itself keeps begins with a slash.
    if !(1..=32).contains(&kind.len()) || !kind.iter().all(u8::is_ascii_alphanumeric) {
        return invalid("a record's kind is 1 to 32 letters and digits");
    }
    let key = record.key.as_bytes();
    if !(1..=128).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        return invalid("a record's key is 1 to 128 printable characters without space");
    }
    if record.value.len() > MOST_VALUE {
        return invalid("a record's value has at most 64 KiB");
    }
    Ok(())
}

impl Core {
    /// Stages that something small is kept, or not any more, and applies it.
    pub(super) fn keep(&mut self, keep: Keep, now_us: u64) -> Result<(), StoreError> {
        let draft = Draft::new(Kind::Kept, &keep, Bytes::new());
        self.make_room(draft.len(), now_us)?;
        let at = self.stage_linked(draft, Location::NONE, Vec::new());
        self.state.keeping.apply(keep, at);
        Ok(())
    }

    /// Writes again what is kept in this segment or an earlier one and nowhere else. It must become
    /// durable before the segment goes.
    pub(super) fn keep_again(&mut self, segment: u32, now_us: u64) -> Result<(), StoreError> {
        for keep in self.state.keeping.up_to(segment) {
            self.keep(keep, now_us)?;
        }
        Ok(())
    }
}
