//! The power fails right after old segments were deleted: by then the disk must have what stands in for
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use postrider_protocol::queue_v1::{NewMessage, OutcomeKind, Suspension};
use postrider_queue::store::embedded::{EmbeddedStore, Faults};
use postrider_queue::store::{LeaseRequest, Record, Store};

use crate::kit::{Kit, accept, assert_adds_up, inline, message, outcome, pull_all};

/// Files by their paths in the store's folder.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A disk that keeps of each segment what was synced, and deletes at once: the worst that one may do.
struct Disk {
    dir: PathBuf,
    kept: Mutex<Kept>,
    changed: Condvar,
}

#[derive(Default)]
struct Kept {
    /// Segments, as far as they were synced.
    synced: Files,
    /// What would be there if the power had failed after a deletion, before the next sync.
    images: Vec<Files>,
    syncs: usize,
    /// Syncs that fail.
    bad: std::ops::Range<usize>,
    /// The next sync is to be held up, once it is clear what it covers; then it is held up.
    hold: bool,
    held: bool,
}

fn files(dir: &Path, below: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join(below)).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| Path::new(below).join(name)).collect()
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "log")
}

impl Disk {
    fn new(kit: &Kit, bad: std::ops::Range<usize>) -> Arc<Self> {
        Arc::new(Self {
            dir: kit.dir().to_owned(),
            kept: Mutex::new(Kept {
                bad,
                ..Kept::default()
            }),
            changed: Condvar::new(),
        })
    }

    /// Takes an image if a segment was deleted since the last one.
    fn look(&self, kept: &mut Kept) {
        let there: BTreeSet<PathBuf> = files(&self.dir, "log").into_iter().collect();
        let before = kept.synced.len();
        kept.synced.retain(|path, _| there.contains(path));
        if kept.synced.len() < before {
            kept.images.push(self.image(kept));
        }
    }

    fn image(&self, kept: &Kept) -> Files {
        let others = files(&self.dir, "log").into_iter();
        let others = others.filter(|path| !is_segment(path));
        let others = others.chain(files(&self.dir, "journeys"));
        let others = others.map(|path| {
            let bytes = std::fs::read(self.dir.join(&path)).unwrap();
            (path, bytes)
        });
        others.chain(kept.synced.clone()).collect()
    }

    /// Holds up the next sync until it is let go.
    fn hold(&self) {
        self.kept.lock().unwrap().hold = true;
    }

    /// Waits until a sync is held up.
    fn wait_until_held(&self) {
        let kept = self.kept.lock().unwrap();
        drop(self.changed.wait_while(kept, |kept| !kept.held).unwrap());
    }

    fn let_go(&self) {
        self.kept.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    fn syncs(&self) -> usize {
        self.kept.lock().unwrap().syncs
    }

    fn images(&self) -> Vec<Files> {
        let mut kept = self.kept.lock().unwrap();
        self.look(&mut kept);
        std::mem::take(&mut kept.images)
    }
}

impl Faults for Disk {
    fn before_sync(&self, file: &Path) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap();
        self.look(&mut kept);
        kept.syncs += 1;
        if kept.bad.contains(&kept.syncs) {
            return Err(io::Error::other("bad sector"));
        }
        let bytes = std::fs::read(file)?;
        let name = file.strip_prefix(&self.dir).unwrap().to_owned();
        kept.synced.insert(name, bytes);
        if std::mem::take(&mut kept.hold) {
            kept.held = true;
            self.changed.notify_all();
            drop(self.changed.wait_while(kept, |kept| kept.held).unwrap());
        }
        Ok(())
    }
}

fn small() -> Kit {
    Kit {
        segment_size: 12 << 10,
        ..Kit::new()
    }
}

/// What was acknowledged before anything was deleted, and stays.
struct Stays {
    records: Vec<Record>,
    suspension: Suspension,
    messages: Vec<NewMessage>,
}

async fn begin(store: &EmbeddedStore) -> Stays {
    let record = |n: u8| Record {
        kind: "act".to_owned(),
        key: format!("k{n}"),
        version: 1,
        value: Bytes::from(vec![n; 50]),
    };
    let records: Vec<Record> = (0..10).map(record).collect();
    for record in &records {
        assert!(store.put_record(record.clone()).await.unwrap());
    }
    let suspension = Suspension {
        id: "s".to_owned(),
        tenant: "t".to_owned(),
        ..Suspension::default()
    };
    store.suspend(suspension.clone()).await.unwrap();
    let to_a = |n: u8| message(&[("x@a.test", "smtp:a.test")], &[b'a' + n; 700]);
    let messages: Vec<NewMessage> = (0..4).map(to_a).collect();
    for message in &messages {
        accept(store, message).await;
    }
    Stays {
        records,
        suspension,
        messages,
    }
}

/// Messages come and go, so that segments fill and are deleted. Errors of the disk are told of, and
/// that is all.
async fn come_and_go(store: &EmbeddedStore) {
    for _ in 0..60 {
        let new = message(&[("x@b.test", "mailbox:b.test")], &[b'x'; 3000]);
        store.enqueue(vec![new]).await;
        let request = LeaseRequest {
            worker: "w".to_owned(),
            transports: vec!["mailbox".to_owned()],
            slots: 4,
        };
        for grant in store.lease(request, 1).await.unwrap_or_default() {
            let pulled = store.pull(grant.token, 100).await.ok().flatten();
            for delivery in pulled.unwrap_or_default() {
                let done = outcome(&delivery, OutcomeKind::Delivered);
                store.complete(vec![done]).await;
            }
            store.give_back(vec![grant.token]).await.ok();
        }
    }
}

/// What the disk would have had.
fn unpack(image: &Files) -> Kit {
    let kit = small();
    for (path, bytes) in image {
        let path = kit.dir().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    kit
}

/// Finds all that stays.
async fn check(image: &Files, stays: &Stays, name: &str) {
    let kit = unpack(image);
    let store = kit.open().await;
    assert_eq!(store.records("act").await.unwrap(), stays.records, "{name}");
    let suspensions = store.suspensions().await.unwrap();
    assert_eq!(
        suspensions,
        std::slice::from_ref(&stays.suspension),
        "{name}"
    );
    assert_adds_up(&store).await;
    let pulled = pull_all(&store, "w").await;
    for (n, message) in stays.messages.iter().enumerate() {
        let found = pulled
            .iter()
            .find(|delivery| delivery.queue_id == message.queue_id);
        let found = found.unwrap_or_else(|| panic!("{name}: message {n} is lost"));
        assert_eq!(inline(found), [b'a' + n as u8; 700], "{name}");
    }
}

/// How it went.
struct Played {
    /// Syncs before any segment was deleted, and in all.
    begun: usize,
    all: usize,
    /// How often the power might have failed after a deletion.
    images: usize,
}

/// Plays all of it with these syncs failing.
async fn play(bad: std::ops::Range<usize>) -> Played {
    let kit = small();
    let name = format!("bad syncs {bad:?}");
    let disk = Disk::new(&kit, bad);
    let store = kit.open_with(disk.clone()).await;
    let stays = begin(&store).await;
    let begun = disk.syncs();
    come_and_go(&store).await;
    store.close().await.ok();
    drop(store);
    let images = disk.images();
    for image in &images {
        check(image, &stays, &name).await;
    }
    Played {
        begun,
        all: disk.syncs(),
        images: images.len(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_goes_when_what_stands_in_for_it_is_on_the_disk() {
    let images = play(0..0).await.images;
    assert!(images > 3, "{images} deletions");
}

/// What was to stand in for a segment did not get to the disk. The segment stays until it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_stays_while_the_disk_fails() {
    let Played { begun, all, .. } = play(0..0).await;
    let (mut runs, mut images) = (0, 0);
    for from in (begun + 1..all).step_by(20) {
        runs += 1;
        images += play(from..from + 4).await.images;
    }
    assert!(images > 2 * runs, "{images} deletions in {runs} runs");
}

/// What is written to a segment behind the back of its sync is synced as well, although the segment is
/// full by then and is not written to any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_fills_while_it_is_synced_is_synced_again() {
    let kit = small();
    let disk = Disk::new(&kit, 0..0);
    let store = Arc::new(kit.open_with(disk.clone()).await);
    let large = |n: u8| message(&[("x@a.test", "smtp:a.test")], &[b'0' + n; 3000]);
    let messages: Vec<NewMessage> = (0..6).map(large).collect();
    let enqueue = |new: &NewMessage| {
        let (store, new) = (store.clone(), new.clone());
        tokio::spawn(async move { store.enqueue(vec![new]).await.remove(0).unwrap() })
    };
    disk.hold();
    let mut accepted = vec![enqueue(&messages[0])];
    disk.wait_until_held();
    accepted.extend(messages[1..].iter().map(enqueue));
    // The first segment is written to the end before the second is begun.
    let first = kit.segments().remove(0);
    let is_full = || {
        let bytes = std::fs::read(&first).unwrap();
        let large = bytes.chunk_by(|one, other| one == other);
        large.filter(|run| run.len() > 2900 && run[0] > 0).count() >= 3
    };
    while !is_full() {
        tokio::task::yield_now().await;
    }
    disk.let_go();
    for accepted in accepted {
        accepted.await.unwrap();
    }
    let image = disk.image(&disk.kept.lock().unwrap());
    let store = unpack(&image).open().await;
    let pulled = pull_all(&store, "w").await;
    assert_eq!(pulled.len(), messages.len());
}
