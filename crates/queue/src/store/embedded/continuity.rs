//! Whether the log is all there: its records are numbered without a gap.
//!
//! That tells a torn end from a lost one. What is no record at the end of a file is the usual trace
//! of a crash if the next record has the next number; otherwise records were there.

use std::path::{Path, PathBuf};

use super::finding::{Finding, FindingKind};

/// Follows the numbers of records.
#[derive(Default)]
pub(super) struct Continuity {
    /// The number that the next record should have, once the first was seen.
    expected: Option<u64>,
    /// Damage, until the next record tells how much it cost.
    pending: Option<Finding>,
    /// The place behind the last record.
    last: Option<(PathBuf, u64)>,
    pub(super) findings: Vec<Finding>,
}

impl Continuity {
    /// Bytes before a whole record are none.
    pub(super) fn damage(&mut self, path: &Path, from: u64, to: u64) {
        let finding = Finding::new(FindingKind::DamagedBytes, path, "").range(from, to);
        self.hold(finding);
    }

    /// Bytes at the end of a file are none.
    pub(super) fn unclean_end(&mut self, path: &Path, from: u64, to: u64) {
        let finding = Finding::new(FindingKind::TornEnd, path, "").range(from, to);
        self.hold(finding);
    }

    fn hold(&mut self, finding: Finding) {
        self.resolve(0, 0);
        self.pending = Some(finding);
    }

    /// A record was read.
    pub(super) fn record(&mut self, path: &Path, offset: u64, number: u64) {
        let expected = self.expected.unwrap_or(number);
        let missing = number.saturating_sub(expected);
        if self.pending.is_some() {
            self.resolve(expected, missing);
        } else if missing > 0 {
            let detail = format!("records {expected} to {} are missing", number - 1);
            self.findings
                .push(Finding::new(FindingKind::Gap, path, detail).at(offset));
        }
        self.expected = Some(number + 1);
        self.last = Some((path.to_owned(), offset));
    }

    /// Says how many records the pending damage cost.
    fn resolve(&mut self, expected: u64, missing: u64) {
        let Some(mut finding) = self.pending.take() else {
            return;
        };
        let bytes = finding.len.unwrap_or_default();
        if finding.kind == FindingKind::TornEnd && missing > 0 {
            finding.kind = FindingKind::LostEnd;
        }
        finding.detail = match missing {
            0 if finding.kind == FindingKind::TornEnd => {
                format!("{bytes} bytes behind the last record are no record")
            }
            0 => format!("{bytes} bytes are damaged"),
            1 => format!("{bytes} bytes are damaged: record {expected} is missing"),
            _ => format!(
                "{bytes} bytes are damaged: records {expected} to {} are missing",
                expected + missing - 1
            ),
        };
        self.findings.push(finding);
    }

    /// The log has ended. `archived` is the newest record that the journeys know of.
    pub(super) fn finish(&mut self, dir: &Path, archived: u64) {
        let expected = self.expected.unwrap_or(1);
        let missing = (archived + 1).saturating_sub(expected);
        if self.pending.is_some() {
            self.resolve(expected, missing);
        } else if missing > 0 {
            let detail = format!(
                "the journeys know of record {archived}, and the log ends with {}",
                expected - 1
            );
            let (path, offset) = self.last.clone().unwrap_or_else(|| (dir.to_owned(), 0));
            self.findings
                .push(Finding::new(FindingKind::LostEnd, &path, detail).at(offset));
        }
    }
}
