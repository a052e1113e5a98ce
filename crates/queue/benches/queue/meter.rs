//! CPU time and memory.

use std::time::{Duration, Instant};

use crate::subject::Subject;

/// What an operation took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// CPU time of this process and of the store's server, for each.
    pub(crate) cpu_us: f64,
    /// How many a second.
    pub(crate) rate: f64,
}

pub(crate) struct Meter {
    started: Instant,
    own: Duration,
    server: Duration,
}

impl Meter {
    pub(crate) fn start(subject: &Subject) -> Self {
        Self {
            started: Instant::now(),
            own: own(),
            server: server(subject),
        }
    }

    pub(crate) fn stop(self, subject: &Subject, operations: usize) -> Taken {
        let wall = self.started.elapsed();
        let cpu = (own() - self.own) + (server(subject) - self.server);
        Taken {
            cpu_us: cpu.as_secs_f64() * 1e6 / operations as f64,
            rate: operations as f64 / wall.as_secs_f64(),
        }
    }
}

/// CPU time of this process, user and system.
fn own() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of the store's server, in steps of 10 ms.
fn server(subject: &Subject) -> Duration {
    let Some(pid) = subject.server() else {
        return Duration::ZERO;
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<u32>().unwrap();
    Duration::from_millis(10) * (ticks(14) + ticks(15))
}

/// Bytes of memory that are resident and this process' own.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    kib << 10
}
