//! Deleting stored bodies that are not needed any more.

use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;

use super::{Bodies, is_ours};
use crate::store::{Store, StoreError};

/// A body that no message names may be younger than this: its enqueue may be on its way.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);
/// Bodies that are looked at together.
const BATCH: usize = 500;

impl Bodies {
    /// Deletes the bodies of messages that have ended. Returns how many there were.
    pub(crate) async fn delete_ended(&self, store: &dyn Store) -> Result<usize, StoreError> {
        let names = store.ended_bodies(BATCH).await?;
        let mut deleted = Vec::with_capacity(names.len());
        for name in names {
            match self.delete(&name).await {
                Ok(()) => deleted.push(name),
                Err(error) => tracing::warn!(body = name, %error, "an ended body stays for now"),
            }
        }
        let count = deleted.len();
        if count > 0 {
            store.forget_bodies(deleted).await?;
        }
        Ok(count)
    }

    /// Deletes bodies that are old and that no message names.
    pub(crate) async fn sweep(&self, store: &dyn Store) -> anyhow::Result<usize> {
        let mut listing = self.objects.list(None);
        let mut old = Vec::new();
        let mut swept = 0;
        loop {
            let next = listing.try_next().await?;
            let at_end = next.is_none();
            if let Some(found) = next {
                let name = found.location.to_string();
                // In a bucket there may be other things.
                if is_ours(&name) && is_old(found.last_modified.into()) {
                    old.push(name);
                }
            }
            if old.len() >= BATCH || at_end && !old.is_empty() {
                let named = store.bodies_in_use(old.clone()).await?;
                for name in old.drain(..).filter(|name| !named.contains(name)) {
                    tracing::info!(body = name, "a body that no message names is deleted");
                    self.delete(&name).await?;
                    swept += 1;
                }
            }
            if at_end {
                break;
            }
        }
        if let Some(dir) = self.dir.clone() {
            swept += tokio::task::spawn_blocking(move || sweep_unfinished(&dir)).await??;
        }
        Ok(swept)
    }

    /// Every stored body with its size, passed on in any order.
    pub(crate) async fn each(&self, mut each: impl FnMut(String, u64)) -> anyhow::Result<()> {
        let mut listing = self.objects.list(None);
        while let Some(found) = listing.try_next().await? {
            let name = found.location.to_string();
            if is_ours(&name) {
                each(name, found.size);
            }
        }
        Ok(())
    }
}

/// Deletes what uploads into a folder have left that a crash broke off: `<name>#<number>`.
fn sweep_unfinished(dir: &Path) -> std::io::Result<usize> {
    let mut swept = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_unfinished = name
            .to_str()
            .and_then(|name| name.split_once('#'))
            .is_some_and(|(name, _)| is_ours(name));
        if is_unfinished && is_old(entry.metadata()?.modified()?) {
            std::fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

fn is_old(modified: SystemTime) -> bool {
    SystemTime::now()
        .duration_since(modified)
        .is_ok_and(|age| age > ORPHAN_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_off_uploads_go_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let name = "0123456789abcdef0123456789abcdef";
        let long_ago = SystemTime::now() - 2 * ORPHAN_AGE;
        for (file, old) in [
            (name.to_owned(), true),
            (format!("{name}#1"), true),
            (format!("{name}#2"), false),
            ("notes#1".to_owned(), true),
        ] {
            let file = std::fs::File::create(dir.path().join(file)).unwrap();
            if old {
                file.set_modified(long_ago).unwrap();
            }
        }
        assert_eq!(sweep_unfinished(dir.path()).unwrap(), 1);
        assert!(!dir.path().join(format!("{name}#1")).exists());
    }
}
