//! Which files the log consists of, and the key that its records are checked with.
//!
//! The key stands at the start of each segment, and once more in a file of its own: without it no
//! record can be told from damage, and one bad sector must not cost the whole queue.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::faults::Faults;
use super::finding::{Finding, FindingKind};
use super::segment::{Access, Preface, Segment};
use crate::store::StoreError;

/// The log's files as they were found.
pub(super) struct Inventory {
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    /// `None` if nothing was ever written.
    pub(super) key: Option<u64>,
}

/// Opens every segment in a folder.
///
/// # Errors
/// A file cannot be opened, was written by a later version, or nothing tells the key: in all of
/// these what is stored is still there, and going on without it would be wrong.
pub(super) fn take(
    dir: &Path,
    access: Access,
    faults: &Arc<dyn Faults>,
    findings: &mut Vec<Finding>,
) -> Result<Inventory, StoreError> {
    let paths = segment_paths(dir).map_err(|error| cannot_read(dir, &error))?;
    let mut prefaces = Vec::with_capacity(paths.len());
    for (number, path) in &paths {
        let preface =
            Segment::look(path, *number, &**faults).map_err(|error| cannot_read(path, &error))?;
        if let Preface::Foreign(version) = preface {
            return Err(StoreError::Damaged(format!(
                "{}: written by a later version of Postrider (layout {version}); start that \
                 version, nothing was changed",
                path.display()
            )));
        }
        prefaces.push((*number, path, preface));
    }
    let whole = prefaces.iter().find_map(|(_, _, preface)| match preface {
        Preface::Whole(key) => Some(*key),
        _ => None,
    });
    let key = whole.or_else(|| read_key(&key_path(dir)));
    let mut segments = BTreeMap::new();
    for (number, path, preface) in prefaces {
        let Some(key) = key else {
            if preface == Preface::Blank && is_blank(path)? {
                continue;
            }
            return Err(StoreError::Damaged(format!(
                "{}: the start of the file is damaged, and neither another file of the log nor {} \
                 has the key with which its records are checked; nothing was changed",
                path.display(),
                key_path(dir).display()
            )));
        };
        if preface == Preface::Damaged {
            let what = "the first 32 bytes are not what they should be";
            findings.push(Finding::new(FindingKind::DamagedStart, path, what).range(0, 32));
        }
        let segment = Segment::open(path, number, key, access, faults)
            .map_err(|error| cannot_read(path, &error))?;
        segments.insert(number, segment);
    }
    missing(dir, &segments, findings);
    Ok(Inventory { segments, key })
}

/// Files of the log in a folder, by number.
pub(super) fn segment_paths(dir: &Path) -> io::Result<BTreeMap<u32, PathBuf>> {
    let mut paths = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        if let Some(number) = number {
            paths.insert(number, path);
        }
    }
    Ok(paths)
}

fn missing(dir: &Path, segments: &BTreeMap<u32, Arc<Segment>>, findings: &mut Vec<Finding>) {
    let numbers: Vec<u32> = segments.keys().copied().collect();
    for pair in numbers.windows(2) {
        for number in pair[0] + 1..pair[1] {
            findings.push(Finding::new(
                FindingKind::MissingSegment,
                &Segment::path(dir, number),
                "the file is missing, while older and newer ones are there",
            ));
        }
    }
}

fn is_blank(path: &Path) -> Result<bool, StoreError> {
    let bytes = std::fs::read(path).map_err(|error| cannot_read(path, &error))?;
    Ok(bytes.iter().all(|byte| *byte == 0))
}

fn cannot_read(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join("key")
}

const KEY_MAGIC: &[u8; 8] = b"postkey1";

/// What the file of the key holds.
fn encode_key(key: u64) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(KEY_MAGIC);
    bytes[8..16].copy_from_slice(&key.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_key(path: &Path) -> Option<u64> {
    let bytes = std::fs::read(path).ok()?;
    let key = bytes
        .get(8..16)?
        .iter()
        .rev()
        .fold(0, |key, byte| key << 8 | u64::from(*byte));
    (bytes == encode_key(key)).then_some(key)
}

/// Makes sure that the key has its file.
pub(super) fn keep_key(dir: &Path, key: u64) -> io::Result<()> {
    let path = key_path(dir);
    if read_key(&path) == Some(key) {
        return Ok(());
    }
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    file.write_all(&encode_key(key))?;
    file.sync_all()?;
    std::fs::rename(&unfinished, &path)?;
    File::open(dir)?.sync_all()
}
