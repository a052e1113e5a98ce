//! Opening and closing the store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use postrider_protocol::DeliveryId;

use super::EmbeddedStore;
use super::archive::{Archive, Limits};
use super::core::{Core, Shared, unavailable};
use super::faults::{Faults, NoFaults};
use super::housekeeping::{self, Chore, deliveries_of};
use super::log::{Log, LogSettings};
use super::record::{Change, Head};
use super::recover::{Reading, Recovered, SegmentEnd, recover};
use super::segment::Access;
use super::state::State;
use super::{changing, commit, inventory, quarantine, suspending};
use crate::holder::worker_of;
use crate::store::clock::{Clock, SystemClock};
use crate::store::{StoreError, StoreSettings};

/// Where and how the embedded store keeps its log.
#[derive(Clone)]
pub struct EmbeddedSettings {
    /// The folder; made if it is missing. One process at a time may use it.
    pub dir: PathBuf,
    /// Bytes of a segment; at most 2 GiB.
    pub segment_size: u64,
    /// Free bytes on the disk below which new mail is refused.
    pub reserve: u64,
    /// Bytes of memory for messages that were just accepted.
    pub cache: usize,
    /// Bytes on disk that the journeys of ended messages may take.
    pub journey_space: u64,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where tests make the disk fail.
    pub faults: Arc<dyn Faults>,
}

impl EmbeddedSettings {
    /// The usual settings, in a folder.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            segment_size: 128 << 20,
            reserve: 256 << 20,
            cache: 32 << 20,
            journey_space: 2 << 30,
            clock: Arc::new(SystemClock::new()),
            faults: Arc::new(NoFaults),
        }
    }
}

impl EmbeddedStore {
    /// Opens the store and recovers what the log holds.
    ///
    /// # Errors
    /// Another process uses the folder, the disk fails, or nothing in the log can be read.
    pub async fn open(
        embedded: EmbeddedSettings,
        settings: StoreSettings,
    ) -> Result<Self, StoreError> {
        tokio::task::spawn_blocking(move || Self::open_here(embedded, settings))
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    fn open_here(embedded: EmbeddedSettings, settings: StoreSettings) -> Result<Self, StoreError> {
        let lock = lock(&embedded.dir)?;
        let io = |error: io::Error| unavailable(&error);
        let mut findings = Vec::new();
        let limits = Limits {
            keep: settings.journey_retention,
            space: embedded.journey_space,
        };
        let archive =
            Archive::open(&embedded.dir.join("journeys"), limits, &mut findings).map_err(io)?;
        let log_dir = embedded.dir.join("log");
        std::fs::create_dir_all(&log_dir).map_err(io)?;
        let now_us = embedded.clock.now_us();
        let state = State::new(
            settings.slots_per_destination,
            embedded.cache,
            settings.policies.clone(),
        );
        let reading = Reading {
            dir: &log_dir,
            access: Access::Write,
            all_content: false,
            archived: archive.newest_number(),
            faults: &embedded.faults,
        };
        let mut recovered = recover(&reading, state)?;
        recovered.findings.append(&mut findings);
        tell(&recovered);
        tidy(&log_dir, &recovered.ends);
        let key = recovered.key.unwrap_or_else(rand::random);
        inventory::keep_key(&log_dir, key).map_err(io)?;
        recovered.state.leases.begin_epoch(recovered.epoch);
        let head = Head {
            epoch: recovered.epoch,
            created_us: now_us,
            totals: recovered.state.totals,
            voids_from: 0,
        };
        let log_settings = LogSettings {
            dir: log_dir,
            segment_size: embedded.segment_size.min(2 << 30),
            reserve: embedded.reserve,
            faults: embedded.faults.clone(),
        };
        let log =
            Log::start(log_settings, key, recovered.segments, recovered.next, &head).map_err(io)?;
        let core = Core::new(log, recovered.state, recovered.epoch);
        let (chores, chores_receiver) = mpsc::channel();
        let shared = Arc::new(Shared::new(core, embedded.clock, settings, archive, chores));
        start_threads(&shared, chores_receiver).map_err(io)?;
        let store = Self { shared };
        store.shared.keep_lock(lock);
        store.end_what_is_over(now_us)?;
        store.note_lapsed(recovered.lapsed, now_us)?;
        store.hold_damaged(&recovered.damaged, now_us)?;
        let commit = store.shared.commit(&mut store.shared.lock());
        commit.wait()?;
        // Makes the next segment ahead, and deletes what is not needed any more.
        store.shared.chores.send(Chore::Segments(Vec::new())).ok();
        Ok(store)
    }

    /// Holds and suspensions whose time is over have ended, whether that was recorded or not.
    fn end_what_is_over(&self, now_us: u64) -> Result<(), StoreError> {
        let mut core = self.shared.lock();
        core.state.end_holds(now_us);
        suspending::end_over(&self.shared, &mut core, now_us)
    }

    /// What a worker had when the process died: nobody knows what became of it.
    fn note_lapsed(
        &self,
        lapsed: Vec<(DeliveryId, String)>,
        now_us: u64,
    ) -> Result<(), StoreError> {
        for (id, worker) in lapsed {
            let worker = worker_of(&worker);
            let text = format!("outcome unknown after a crash; {worker} had it");
            tracing::warn!(queue_id = %id.queue_id, delivery = %id, text);
            let mut core = self.shared.lock();
            let lapse = changing::lapsed(&self.shared, &core, id, &text, now_us);
            changing::record(&mut core, id, &lapse, now_us)?;
        }
        Ok(())
    }

    fn hold_damaged(
        &self,
        damaged: &[postrider_protocol::QueueId],
        now_us: u64,
    ) -> Result<(), StoreError> {
        for id in damaged {
            let mut core = self.shared.lock();
            let deliveries = core
                .state
                .messages
                .get(&id.as_u128())
                .map(|message| deliveries_of(*id, message));
            for delivery in deliveries.into_iter().flatten() {
                let text = "held, because its stored content is damaged";
                let damaged =
                    changing::changed(&self.shared, delivery, Change::Damaged, text, "", now_us);
                changing::record(&mut core, delivery, &damaged, now_us)?;
            }
        }
        Ok(())
    }
}

/// Says what was found, and keeps the damaged files from being deleted.
fn tell(recovered: &Recovered) {
    for finding in &recovered.findings {
        finding.log();
        let segments = recovered.segments.values();
        if let Some(segment) = segments
            .filter(|_| !finding.kind.is_harmless())
            .find(|segment| segment.path == finding.file)
        {
            segment.mark_damaged();
        }
    }
}

/// Cuts off what is behind the last record of each segment: space that was held in advance, or
/// what a crash has torn, which is copied first.
fn tidy(log_dir: &Path, ends: &[SegmentEnd]) {
    for end in ends {
        let file = end.segment.path.display();
        end.segment.set_len(end.at);
        if !end.clean {
            match quarantine::keep_tail(log_dir, end) {
                Ok(copy) => {
                    tracing::info!(%file, copy = %copy.display(), "what is behind the last record was copied");
                }
                Err(error) => {
                    tracing::error!(%file, %error, "what is behind the last record could not be copied, and stays");
                    continue;
                }
            }
        }
        if let Err(error) = end.segment.trim(end.at) {
            tracing::error!(%file, %error, "what is behind the last record stays");
        }
    }
}

fn start_threads(shared: &Arc<Shared>, chores: mpsc::Receiver<Chore>) -> io::Result<()> {
    let committer = {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("queue-commit".to_owned())
            .spawn(move || commit::run(&shared))?
    };
    let housekeeper = {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("queue-housekeep".to_owned())
            .spawn(move || housekeeping::run(&shared, &chores))?
    };
    shared.keep_threads(vec![committer, housekeeper]);
    Ok(())
}

/// Keeps others from opening the store in a folder, without leaving a trace there.
pub(super) fn lock_for_reading(dir: &Path) -> Result<Option<File>, StoreError> {
    let path = dir.join("lock");
    let unavailable =
        |error: &io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let file = match File::open(&path) {
        Ok(file) => file,
        // A copy of the files may lack it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unavailable(&error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
            "{}: a process uses this queue; stop it first",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unavailable(&error)),
    }
}

/// Takes the folder for this process.
fn lock(dir: &Path) -> Result<File, StoreError> {
    std::fs::create_dir_all(dir)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", dir.display())))?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
            "{}: another process uses this queue; stop it, or set another folder in [queue.embedded]",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(StoreError::Unavailable(format!(
            "{}: {error}",
            path.display()
        ))),
    }
}

/// The threads and the lock of an open store.
#[derive(Default)]
pub(super) struct Holdings {
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    lock: Mutex<Option<File>>,
}

impl Shared {
    fn keep_threads(&self, threads: Vec<std::thread::JoinHandle<()>>) {
        *self
            .holdings
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = threads;
    }

    fn keep_lock(&self, lock: File) {
        *self
            .holdings
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(lock);
    }

    fn release(&self) {
        self.chores.send(Chore::Stop).ok();
        let threads = std::mem::take(
            &mut *self
                .holdings
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for thread in threads {
            // Its panic, if there was one, has been reported where it happened.
            thread.join().ok();
        }
        self.holdings
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Writes out everything and stops.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        if self.lock().closed {
            return Ok(());
        }
        let committed = commit::stop(self);
        let (done, wait) = mpsc::channel();
        if self.chores.send(Chore::Barrier(done)).is_ok() {
            wait.recv().ok();
        }
        let finished = self
            .lock()
            .log
            .finish()
            .map_err(|error| unavailable(&error));
        self.release();
        committed.and(finished)
    }

    /// Stops as a crash would: what nobody was told of may be lost.
    pub(super) fn abandon(&self) {
        {
            let mut core = self.lock();
            if core.closed {
                return;
            }
            core.closed = true;
            core.stopping = true;
            core.sync_wanted = false;
        }
        self.wanted.notify_all();
        self.release();
        // Whoever waits for a commit hears that there is none.
        self.lock().waiters.clear();
    }
}
