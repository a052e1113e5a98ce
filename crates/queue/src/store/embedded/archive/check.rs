//! Looking through the journeys offline.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::super::finding::{Finding, FindingKind};
use super::index::{self, Index};
use super::{data_path, numbers, scan};

/// A file of journeys as it was found.
pub(in super::super) struct Checked {
    pub(in super::super) path: PathBuf,
    pub(in super::super) journeys: u64,
    pub(in super::super) bytes: u64,
}

/// Reads every file of journeys in a folder. Returns what is in them, and the newest record of the
/// log that they know of. Changes nothing.
pub(in super::super) fn check(
    dir: &Path,
    findings: &mut Vec<Finding>,
) -> io::Result<(Vec<Checked>, u64)> {
    let numbers = match numbers(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        numbers => numbers?,
    };
    missing(dir, &numbers, findings);
    let mut checked = Vec::with_capacity(numbers.len());
    let mut newest = 0;
    for number in &numbers {
        let path = data_path(dir, *number);
        let mut journeys = 0;
        let bytes = scan::entries(&File::open(&path)?, &path, findings, |entry, _| {
            journeys += 1;
            newest = newest.max(entry.number);
        })?;
        if numbers.last() != Some(number) {
            let index = index::path(dir, *number);
            if let Err(error) = Index::open(&index) {
                findings.push(Finding::new(
                    FindingKind::DamagedIndex,
                    &index,
                    error.to_string(),
                ));
            }
        }
        checked.push(Checked {
            path,
            journeys,
            bytes,
        });
    }
    Ok((checked, newest))
}

/// Names files that are missing between others.
pub(super) fn missing(dir: &Path, numbers: &[u64], findings: &mut Vec<Finding>) {
    for pair in numbers.windows(2) {
        for number in pair[0] + 1..pair[1] {
            findings.push(Finding::new(
                FindingKind::MissingJourneys,
                &data_path(dir, number),
                "the file is missing, while older and newer ones are there",
            ));
        }
    }
}
