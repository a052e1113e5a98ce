//! Reading a file of journeys from its start, past damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::super::finding::{Finding, FindingKind};
use super::entry::{self, Entry, HEADER, MAGIC};

const WINDOW: usize = 64 << 10;
/// Where the disk refuses to read, so much is passed over at a time.
const BLOCK: u64 = 4096;

/// Reads every whole journey, with its offset and length. Returns where the last one ends.
///
/// # Errors
/// The file's size cannot be asked.
pub(super) fn entries(
    file: &File,
    path: &Path,
    findings: &mut Vec<Finding>,
    mut each: impl FnMut(&Entry, u64),
) -> io::Result<u64> {
    let file_len = file.metadata()?.len();
    let (mut at, mut end, mut refused) = (0, 0, None);
    while at < file_len {
        match entry::read_with_len(file, at) {
            Ok(Some((entry, len))) => {
                if at > end {
                    let detail = format!("{} bytes are damaged{}", at - end, because(&refused));
                    let kind = FindingKind::DamagedJourneys;
                    findings.push(Finding::new(kind, path, detail).range(end, at));
                    refused = None;
                }
                each(&entry, at);
                at += len;
                end = at;
            }
            Ok(None) => at = next_magic(file, at + 1, file_len, &mut refused),
            Err(error) => {
                refused = Some(error);
                at = next_magic(file, (at / BLOCK + 1) * BLOCK, file_len, &mut refused);
            }
        }
    }
    if file_len > end {
        let detail = format!(
            "{} bytes behind the last journey are none{}",
            file_len - end,
            because(&refused)
        );
        let kind = FindingKind::TornJourneys;
        findings.push(Finding::new(kind, path, detail).range(end, file_len));
    }
    Ok(end)
}

fn because(refused: &Option<io::Error>) -> String {
    refused
        .as_ref()
        .map(|error| format!("; the disk refuses to read them: {error}"))
        .unwrap_or_default()
}

/// Where the next journey may begin.
fn next_magic(file: &File, mut from: u64, file_len: u64, refused: &mut Option<io::Error>) -> u64 {
    let mut window = vec![0; WINDOW];
    while from + HEADER as u64 <= file_len {
        match file.read_at(&mut window, from) {
            Ok(0) => break,
            Ok(got) => {
                if let Some(place) = memchr::memmem::find(&window[..got], &MAGIC) {
                    return from + place as u64;
                }
                // A magic may lie across the border.
                from += (got - (MAGIC.len() - 1).min(got - 1)) as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                *refused = Some(error);
                from = (from / BLOCK + 1) * BLOCK;
            }
        }
    }
    file_len
}
