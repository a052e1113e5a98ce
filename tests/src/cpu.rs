//! CPU time of processes and all of their descendants, from `/proc`.

use std::collections::HashMap;
use std::time::Duration;

/// What `/proc/<pid>/stat` says of one process.
#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: u32,
    /// Its own time and that of its children that have ended and were waited for.
    ticks: u64,
}

/// The kernel reports in ticks of this length on every Linux that Debian builds.
const TICK: Duration = Duration::from_millis(10);

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses: fields count from after its last one.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(4)?).ok()?,
        ticks: number(14)? + number(15)? + number(16)? + number(17)?,
    })
}

fn all() -> HashMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

/// CPU time, user and system, that these processes and their descendants have used so far.
#[must_use]
pub fn used(roots: &[u32]) -> Duration {
    let all = all();
    let belongs = |mut pid: u32| {
        // Bounded: /proc may change while it is read, so that a cycle cannot be ruled out.
        for _ in 0..64 {
            if roots.contains(&pid) {
                return true;
            }
            match all.get(&pid) {
                Some(stat) if stat.parent != 0 => pid = stat.parent,
                _ => return false,
            }
        }
        false
    };
    let ticks: u64 = all
        .iter()
        .filter(|(pid, _)| belongs(**pid))
        .map(|(_, stat)| stat.ticks)
        .sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Resident memory of one process in bytes; 0 if it is gone.
#[must_use]
pub fn resident(pid: u32) -> u64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return 0;
    };
    text.lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
        * 1024
}

/// "Linux 6.1, 2 cores, AMD EPYC": what a figure was measured on.
#[must_use]
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    format!(
        "Linux {}, {cores} cores, {model}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}
