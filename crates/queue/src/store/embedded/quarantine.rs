//! Nothing that was damaged is thrown away: it goes to the folder `damaged` beside the log, where
//! an operator can look at it, or have it looked at.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::recover::SegmentEnd;

const PIECE: usize = 1 << 20;

/// The folder for what is damaged in a log.
fn folder(log_dir: &Path) -> PathBuf {
    log_dir.parent().unwrap_or(log_dir).join("damaged")
}

/// Copies what is behind the last whole record of a segment, before it is cut off. Durable when it
/// returns.
pub(super) fn keep_tail(log_dir: &Path, end: &SegmentEnd) -> io::Result<PathBuf> {
    let folder = folder(log_dir);
    std::fs::create_dir_all(&folder)?;
    let name = format!("{:010}.log.from-{}", end.segment.number, end.at);
    let path = folder.join(name);
    let mut copy = File::create(&path)?;
    let mut at = end.at;
    let mut piece = vec![0; PIECE];
    while at < end.data_end {
        let most = PIECE.min(usize::try_from(end.data_end - at).unwrap_or(PIECE));
        let got = end.segment.read_full(&mut piece[..most], at)?;
        if got == 0 {
            break;
        }
        copy.write_all(&piece[..got])?;
        at += got as u64;
    }
    copy.sync_all()?;
    File::open(&folder)?.sync_all()?;
    Ok(path)
}

/// Moves a file of the log there, when nothing that is queued needs it any more.
pub(super) fn retire(log_dir: &Path, file: &Path) -> io::Result<()> {
    let folder = folder(log_dir);
    std::fs::create_dir_all(&folder)?;
    let to = folder.join(file.file_name().unwrap_or_default());
    std::fs::rename(file, &to)?;
    File::open(&folder)?.sync_all()?;
    tracing::warn!(file = %to.display(), "a damaged file of the queue's log is not needed any more; it is kept here, and may be deleted");
    Ok(())
}
