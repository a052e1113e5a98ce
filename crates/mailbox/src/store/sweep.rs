//! Unfinished files that crashes have left in `tmp` folders.

use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::maildir::Maildirs;

/// Maildir's own rule: a file in `tmp` that is older than 36 hours is nobody's.
const ABANDONED: Duration = Duration::from_secs(36 * 3_600);

impl Maildirs {
    /// Deletes what is abandoned, and says how many files that were. What cannot be looked at is
    /// left for the next time.
    pub(crate) fn sweep(&self) -> io::Result<usize> {
        let Some(limit) = SystemTime::now().checked_sub(ABANDONED) else {
            return Ok(0);
        };
        let mut swept = 0;
        for domain in folders(self.root())? {
            for maildir in folders(&domain)? {
                swept += sweep_folder(&maildir.join("tmp"), limit).unwrap_or(0);
            }
        }
        Ok(swept)
    }
}

fn folders(path: &Path) -> io::Result<impl Iterator<Item = std::path::PathBuf>> {
    Ok(fs::read_dir(path)?
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path()))
}

fn sweep_folder(tmp: &Path, limit: SystemTime) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(tmp)?.flatten() {
        let abandoned = entry
            .metadata()
            .is_ok_and(|data| data.is_file() && data.modified().is_ok_and(|at| at < limit));
        if abandoned && fs::remove_file(entry.path()).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}
