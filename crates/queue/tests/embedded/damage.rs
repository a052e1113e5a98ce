//! Damage of any kind, anywhere: what is whole stays, and nothing is lost without a word.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::delivery_status::State;
use postrider_protocol::queue_v1::{Filter, NewMessage, OutcomeKind};
use postrider_queue::store::embedded::{Faults, FindingKind, NoFaults, check};
use postrider_queue::store::{Store, StoreError};
use proptest::prelude::*;

use crate::kit::{
    Kit, accept, assert_adds_up, complete, id, inline, message, outcome, pull_all, simple,
};

/// A store with a history in several segments, closed.
struct World {
    kit: Kit,
    /// What is queued, by id.
    queued: BTreeMap<QueueId, Vec<u8>>,
}

fn numbered(n: usize) -> (NewMessage, Vec<u8>) {
    let content: Vec<u8> = (0..100 + 211 * (n % 7)).map(|at| (at * n) as u8).collect();
    let destination = format!("smtp:d{}.test", n % 5);
    (
        message(&[(&format!("r{n}@d.test"), &destination)], &content),
        content,
    )
}

impl World {
    async fn new(closed: bool) -> Self {
        let kit = Kit {
            segment_size: 12 << 10,
            slots: 100,
            ..Kit::new()
        };
        let store = kit.open().await;
        let mut queued = BTreeMap::new();
        for n in 0..40 {
            let (new, content) = numbered(n);
            accept(&store, &new).await;
            queued.insert(id(&new), content);
            if n % 4 == 3 {
                for delivery in pull_all(&store, "w").await {
                    let kind = match delivery.queue_id.bytes().map(u64::from).sum::<u64>() % 3 {
                        0 => OutcomeKind::Deferred,
                        _ => OutcomeKind::Delivered,
                    };
                    complete(&store, outcome(&delivery, kind)).await;
                    if kind == OutcomeKind::Delivered {
                        queued.remove(&delivery.queue_id.parse().unwrap());
                    }
                }
                kit.clock.advance(Duration::from_secs(20));
                store.expire().await.unwrap();
            }
        }
        if closed {
            store.close().await.unwrap();
        }
        drop(store);
        Self { kit, queued }
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.kit.dir().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind != "key"))
            .collect();
        files.sort();
        files
    }

    /// A copy, to be hurt.
    fn copy(&self) -> Kit {
        let kit = Kit {
            clock: self.kit.clock.clone(),
            segment_size: self.kit.segment_size,
            slots: 100,
            ..Kit::new()
        };
        for folder in ["log", "journeys"] {
            let to = kit.dir().join(folder);
            std::fs::create_dir_all(&to).unwrap();
            for file in std::fs::read_dir(self.kit.dir().join(folder)).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        kit
    }

    /// Opens a hurt copy. What is queued and not in `hurt` must be there with its content, or
    /// be held. Returns what is said to be held.
    async fn assert_kept(&self, kit: &Kit, hurt: &[QueueId], what: &str) {
        let store = kit.open().await;
        assert_adds_up(&store).await;
        kit.clock.advance(Duration::from_secs(10_000));
        store.expire().await.unwrap();
        let mut there: BTreeMap<QueueId, Vec<u8>> = BTreeMap::new();
        for delivery in pull_all(&store, "w").await {
            there.insert(
                delivery.queue_id.parse().unwrap(),
                inline(&delivery).to_vec(),
            );
        }
        for (id, content) in &self.queued {
            match there.get(id) {
                Some(found) => assert!(found == content, "{what}: {id} has other content"),
                None => assert!(hurt.contains(id), "{what}: {id} is whole, and lost"),
            }
        }
        drop(store);
        // It opens again, with what was written since.
        kit.open().await.close().await.unwrap();
    }
}

/// Records in a file of the log: where each lies, and the messages that its bytes name.
fn frames(path: &Path, known: impl Iterator<Item = QueueId>) -> Vec<(Range<usize>, Vec<QueueId>)> {
    let bytes = std::fs::read(path).unwrap();
    let known: Vec<(QueueId, String)> = known.map(|id| (id, id.to_string())).collect();
    let mut frames = Vec::new();
    let mut at = 32;
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    while at + 48 <= bytes.len() && bytes[at..at + 4] == [0xb7, b'P', b'r', 1] {
        let end = at + 48 + number(at + 12) + number(at + 16);
        let named = known
            .iter()
            .filter(|(_, text)| bytes[at..end].windows(26).any(|w| w == text.as_bytes()))
            .map(|(id, _)| *id)
            .collect();
        frames.push((at..end, named));
        at = end;
    }
    frames
}

fn names(kit: &Kit) -> Vec<&'static str> {
    let checked = check(kit.dir()).unwrap();
    checked
        .findings
        .iter()
        .map(|finding| finding.kind.name())
        .collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

#[test]
fn a_flipped_bit_anywhere_costs_at_most_its_own_message() {
    let runtime = runtime();
    let world = runtime.block_on(World::new(true));
    let files: Vec<PathBuf> = [world.files("log"), world.files("journeys")].concat();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 120,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let place = (0..files.len(), any::<prop::sample::Index>(), 0..8_u8);
    runner
        .run(&place, |(file, at, bit)| {
            let file = &files[file];
            let mut bytes = std::fs::read(file).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let kit = world.copy();
            let copy = kit.dir().join(file.strip_prefix(world.kit.dir()).unwrap());
            std::fs::write(copy, bytes).unwrap();
            let what = format!("{} byte {at} bit {bit}", file.display());
            let is_log = file.extension().is_some_and(|kind| kind == "log");
            let mut hurt = Vec::new();
            if is_log {
                let frames = frames(file, world.queued.keys().copied());
                hurt = frames
                    .into_iter()
                    .filter(|(range, _)| range.contains(&at))
                    .flat_map(|(_, named)| named)
                    .collect();
            }
            assert_ne!(names(&kit), Vec::<&str>::new(), "{what}: not a word");
            runtime.block_on(world.assert_kept(&kit, &hurt, &what));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_file_cut_short_anywhere_costs_what_was_cut() {
    let runtime = runtime();
    let world = runtime.block_on(World::new(true));
    let files = [world.files("log"), world.files("journeys")].concat();
    let newest = world.files("log").pop().unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let place = (0..files.len(), any::<prop::sample::Index>());
    runner
        .run(&place, |(file, at)| {
            let file = &files[file];
            let bytes = std::fs::read(file).unwrap();
            let at = at.index(bytes.len());
            let kit = world.copy();
            let copy = kit.dir().join(file.strip_prefix(world.kit.dir()).unwrap());
            std::fs::write(copy, &bytes[..at]).unwrap();
            let what = format!("{} cut at {at}", file.display());
            let mut hurt = Vec::new();
            let mut at_border = false;
            if file.extension().is_some_and(|kind| kind == "log") {
                let frames = frames(file, world.queued.keys().copied());
                // Nothing tells that there was more in the newest file, if it ends with a record.
                at_border = *file == newest && frames.iter().any(|(range, _)| range.start == at);
                hurt = frames
                    .into_iter()
                    .filter(|(range, _)| range.end > at)
                    .flat_map(|(_, named)| named)
                    .collect();
            }
            let is_journeys = file.extension().is_some_and(|kind| kind == "journeys");
            if !at_border && !is_journeys {
                assert_ne!(names(&kit), Vec::<&str>::new(), "{what}: not a word");
            }
            runtime.block_on(world.assert_kept(&kit, &hurt, &what));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn the_key_survives_the_start_of_every_file() {
    let world = World::new(true).await;
    let kit = world.copy();
    for file in kit.segments() {
        if file.extension().is_some_and(|kind| kind == "log") {
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[..32].fill(0xff);
            std::fs::write(&file, bytes).unwrap();
        }
    }
    assert!(names(&kit).iter().all(|name| *name == "damaged-start"));
    world.assert_kept(&kit, &[], "without starts").await;

    // Without its copy too, nothing can be read: then nothing may be begun anew either.
    let kit = world.copy();
    for file in kit.segments() {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[..16].fill(0xff);
        std::fs::write(&file, bytes).unwrap();
    }
    let before = kit.segments().len();
    let error = kit.try_open(Arc::new(NoFaults)).await.err().unwrap();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert_eq!(kit.segments().len(), before);
}

#[tokio::test]
async fn a_missing_file_is_missed() {
    let world = World::new(true).await;
    let files = world.files("log");
    assert!(files.len() >= 4, "{files:?}");
    let kit = world.copy();
    let missing = &files[files.len() / 2];
    let copy = kit
        .dir()
        .join(missing.strip_prefix(world.kit.dir()).unwrap());
    std::fs::remove_file(copy).unwrap();
    let checked = check(kit.dir()).unwrap();
    assert!(
        checked
            .findings
            .iter()
            .any(|found| found.kind == FindingKind::MissingSegment
                && found.file.file_name() == missing.file_name()),
        "{:?}",
        checked.findings
    );
    let hurt: Vec<QueueId> = frames(missing, world.queued.keys().copied())
        .into_iter()
        .flat_map(|(_, named)| named)
        .collect();
    world.assert_kept(&kit, &hurt, "a missing file").await;
}

#[tokio::test]
async fn a_lost_message_is_named_if_anything_still_names_it() {
    let kit = Kit::new();
    let store = kit.open().await;
    let lost = simple(b"its acceptance will be gone");
    accept(&store, &lost).await;
    let pulled = pull_all(&store, "w").await;
    complete(&store, outcome(&pulled[0], OutcomeKind::Deferred)).await;
    store.close().await.unwrap();
    drop(store);
    let file = kit
        .segments()
        .into_iter()
        .find(|file| file.extension().is_some_and(|kind| kind == "log"))
        .unwrap();
    let frame = frames(&file, [id(&lost)].into_iter())
        .into_iter()
        .find(|(_, named)| !named.is_empty())
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[frame.0.start + 5] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let checked = check(kit.dir()).unwrap();
    let found = checked
        .findings
        .iter()
        .find(|found| found.kind == FindingKind::LostMessage)
        .unwrap();
    assert_eq!(found.queue_ids, [id(&lost)]);
    let damage = &checked.findings[..];
    let range = damage
        .iter()
        .find(|found| found.kind == FindingKind::DamagedBytes)
        .unwrap();
    assert_eq!(range.offset, Some(frame.0.start as u64));
    assert_eq!(range.len, Some(frame.0.len() as u64));
    assert!(range.detail.contains("is missing"), "{}", range.detail);
    kit.open().await;
}

#[tokio::test]
async fn a_later_version_is_not_taken_for_damage() {
    let world = World::new(true).await;
    let kit = world.copy();
    let newest = kit
        .segments()
        .into_iter()
        .rfind(|file| file.extension().is_some_and(|kind| kind == "log"))
        .unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[7] = b'2';
    bytes[20..32].fill(7);
    std::fs::write(&newest, &bytes).unwrap();
    for error in [
        kit.try_open(Arc::new(NoFaults)).await.err().unwrap(),
        check(kit.dir()).err().unwrap(),
    ] {
        let text = error.to_string();
        assert!(text.contains("later version"), "{text}");
        assert!(text.contains(newest.to_str().unwrap()), "{text}");
    }
    assert_eq!(std::fs::read(&newest).unwrap(), bytes, "left alone");
}

#[tokio::test]
async fn a_store_in_use_is_not_checked_and_a_check_leaves_no_trace() {
    let world = World::new(true).await;
    let store = world.kit.open().await;
    let error = check(world.kit.dir()).unwrap_err().to_string();
    assert!(error.contains("uses this queue"), "{error}");
    drop(store);
    let kit = world.copy();
    let before = snapshot(kit.dir());
    let checked = check(kit.dir()).unwrap();
    assert_eq!(checked.findings, []);
    assert_eq!(checked.messages, world.queued.len() as u64);
    assert_eq!(checked.accepted, 40);
    assert_eq!(snapshot(kit.dir()), before);
}

/// Every file with its content.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.clone(), std::fs::read(path).unwrap())),
            }
        }
    }
    files
}

#[tokio::test]
async fn what_is_cut_off_or_not_needed_any_more_is_kept_aside() {
    let kit = Kit {
        segment_size: 1 << 20,
        ..Kit::new()
    };
    let store = kit.open().await;
    for _ in 0..100 {
        accept(&store, &simple(&[b'x'; 8000])).await;
    }
    store.close().await.unwrap();
    drop(store);
    let oldest = kit.segments().remove(0);
    let mut bytes = std::fs::read(&oldest).unwrap();
    bytes[5000] ^= 1;
    bytes.extend_from_slice(b"a torn record");
    std::fs::write(&oldest, &bytes).unwrap();
    let store = kit.open().await;
    let aside = kit.dir().join("damaged");
    let tail = std::fs::read_dir(&aside).unwrap().next().unwrap().unwrap();
    assert_eq!(std::fs::read(tail.path()).unwrap(), b"a torn record");
    // The hurt one is held, and does not keep its file for ever once it is removed.
    let held = store
        .list(
            &Filter {
                held: true,
                ..Filter::default()
            },
            None,
            9,
        )
        .await
        .unwrap();
    for _ in 0..8 {
        for delivery in pull_all(&store, "w").await {
            complete(&store, outcome(&delivery, OutcomeKind::Delivered)).await;
        }
        for _ in 0..60 {
            accept(&store, &simple(&[b'y'; 8000])).await;
        }
    }
    for status in &held {
        assert_eq!(status.state(), State::Held);
    }
    store.close().await.unwrap();
}

/// A disk with a hole: some bytes of a file cannot be read.
struct Hole {
    file: PathBuf,
    range: Range<u64>,
}

impl Faults for Hole {
    fn before_read(&self, file: &Path, offset: u64, len: usize) -> io::Result<()> {
        let end = offset + len as u64;
        match file == self.file && offset < self.range.end && self.range.start < end {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn what_the_disk_refuses_to_read_costs_only_what_lies_there() {
    let kit = Kit::new();
    let store = kit.open().await;
    let mut ids = Vec::new();
    for n in 0..30 {
        let new = simple(&[n; 2000]);
        accept(&store, &new).await;
        ids.push(id(&new));
    }
    store.close().await.unwrap();
    drop(store);
    let file = kit
        .segments()
        .into_iter()
        .find(|file| file.extension().is_some_and(|kind| kind == "log"))
        .unwrap();
    let hole = Hole {
        file,
        range: 20_480..20_481,
    };
    let store = kit.open_with(Arc::new(hole)).await;
    let there = pull_all(&store, "w").await.len();
    assert!((26..30).contains(&there), "{there}");
    assert_adds_up(&store).await;
    drop(store);
    // The disk reads again: nothing was thrown away.
    let store = kit.open().await;
    let listed = store.list(&Filter::default(), None, 100).await.unwrap();
    assert_eq!(listed.len(), 30);
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new(true).await;
    let log = world.kit.dir().join("log");
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything.
    if std::fs::read_dir(&log).is_err() {
        let error = world.kit.try_open(Arc::new(NoFaults)).await.err().unwrap();
        assert!(error.to_string().contains(log.to_str().unwrap()), "{error}");
    }
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o755)).unwrap();
    // A file that is a folder cannot be read by anybody.
    let blocked = log.join("0000000999.log");
    std::fs::create_dir(&blocked).unwrap();
    for error in [
        world.kit.try_open(Arc::new(NoFaults)).await.err().unwrap(),
        check(world.kit.dir()).err().unwrap(),
    ] {
        assert!(
            error.to_string().contains(blocked.to_str().unwrap()),
            "{error}"
        );
    }
}
