//! Which deliveries already lie in a `cur` folder, under whatever flags.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use super::name::FileName;

/// Folders and deliveries remembered; when there are more, all are read anew.
const MAX_FOLDERS: usize = 4_096;
const MAX_DELIVERIES: usize = 1_000_000;
/// Older mail is not delivered again: no queue tries for so long.
const HORIZON: Duration = Duration::from_secs(60 * 24 * 3_600);
/// A folder that changed this shortly before it was read may change again within one tick of the
/// file system's clock, unnoticed.
const TICK: Duration = Duration::from_millis(100);

/// Finds deliveries in `cur` folders without reading a folder that has not changed. A file there
/// has flags in its name, so that it cannot be asked for by name.
#[derive(Default)]
pub(crate) struct SeenDeliveries {
    folders: Mutex<HashMap<PathBuf, Arc<Listing>>>,
    hasher: std::hash::RandomState,
}

struct Listing {
    modified: (i64, i64),
    deliveries: HashSet<u64>,
}

impl SeenDeliveries {
    /// Whether the folder holds a file whose name begins with this stem.
    pub(crate) fn contains(&self, folder: &Path, stem: &str) -> io::Result<bool> {
        let data = fs::metadata(folder)?;
        let modified = (data.mtime(), data.mtime_nsec());
        let delivery = FileName::parse(stem).delivery.unwrap_or(stem);
        let wanted = self.hasher.hash_one(delivery);
        let known = self.lock().get(folder).cloned();
        if let Some(listing) = known
            && listing.modified == modified
        {
            // Only the names themselves can say yes: two deliveries may share a digest.
            return Ok(listing.deliveries.contains(&wanted) && holds(folder, delivery)?);
        }
        let begun = SystemTime::now();
        let deliveries = self.read(folder, begun)?;
        let found = deliveries.contains(&wanted) && holds(folder, delivery)?;
        let settled = data
            .modified()
            .is_ok_and(|at| at.checked_add(TICK).is_some_and(|at| at < begun));
        if settled {
            self.keep(
                folder,
                Listing {
                    modified,
                    deliveries,
                },
            );
        }
        Ok(found)
    }

    fn read(&self, folder: &Path, now: SystemTime) -> io::Result<HashSet<u64>> {
        let horizon = now
            .checked_sub(HORIZON)
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_secs());
        let mut deliveries = HashSet::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let name = FileName::parse(name.to_str().unwrap_or_default());
            if let Some(delivery) = name.delivery
                && name.seconds >= horizon
            {
                deliveries.insert(self.hasher.hash_one(delivery));
            }
        }
        Ok(deliveries)
    }

    fn keep(&self, folder: &Path, listing: Listing) {
        let mut folders = self.lock();
        let held: usize = folders
            .values()
            .map(|listing| listing.deliveries.len())
            .sum();
        if folders.len() >= MAX_FOLDERS || held + listing.deliveries.len() > MAX_DELIVERIES {
            folders.clear();
        }
        if listing.deliveries.len() <= MAX_DELIVERIES {
            folders.insert(folder.to_owned(), Arc::new(listing));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Arc<Listing>>> {
        // Only whole listings are put in and taken out.
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the folder holds a file of this delivery, by name.
fn holds(folder: &Path, delivery: &str) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if FileName::parse(name.to_str().unwrap_or_default()).delivery == Some(delivery) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use postrider_protocol::{DeliveryId, QueueId};

    use super::super::name;
    use super::*;

    #[test]
    fn deliveries_are_found_under_any_flags() {
        let folder = tempfile::tempdir().unwrap();
        let seen = SeenDeliveries::default();
        let stems: Vec<String> = (0..4)
            .map(|number| {
                let queue_id = QueueId::new();
                name::stem(DeliveryId { queue_id, number })
            })
            .collect();
        for (stem, flags) in stems.iter().zip(["", ":2,", ":2,S", ":2,RST"]) {
            assert!(!seen.contains(folder.path(), stem).unwrap());
            let name = name::file(stem, 1, 1) + flags;
            fs::write(folder.path().join(name), "x").unwrap();
            assert!(seen.contains(folder.path(), stem).unwrap());
        }
        std::thread::sleep(2 * TICK);
        for stem in &stems {
            assert!(seen.contains(folder.path(), stem).unwrap());
        }
        assert_eq!(seen.lock().len(), 1);
        assert!(
            seen.contains(Path::new("/nonexistent-folder"), &stems[0])
                .is_err()
        );
    }
}
