//! When the machine itself stood still: then nothing that has a time limit can be expected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between looks at the clock.
const STEP: Duration = Duration::from_millis(20);
/// A look that comes so late is a pause.
const LATE: Duration = Duration::from_millis(250);

/// A thread that looks at the clock.
#[derive(Debug)]
pub struct Pauses {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Duration, Duration)>>,
}

impl Pauses {
    /// Watches from now on; times count from `started`.
    #[must_use]
    pub fn watch(started: Instant) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut pauses = Vec::new();
            let mut last = started.elapsed();
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(STEP);
                let now = started.elapsed();
                if now - last > LATE {
                    pauses.push((last, now));
                }
                last = now;
            }
            pauses
        });
        Self { stop, thread }
    }

    /// From when to when it stood still.
    #[must_use]
    pub fn end(self) -> Vec<(Duration, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}
