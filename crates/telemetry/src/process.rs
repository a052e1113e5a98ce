//! What the process itself uses, under the names that every Prometheus dashboard knows.

use std::fs;

/// Appends CPU time, memory and open files; nothing where `/proc` is not there.
pub(crate) fn render(text: &mut String) {
    let mut gauge = |name: &str, kind: &str, help: &str, value: f64| {
        text.push_str(&format!(
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"
        ));
    };
    if let Some(usage) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(parse_stat)
    {
        gauge(
            "process_cpu_seconds_total",
            "counter",
            "CPU time of the process, user and system.",
            usage.cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        );
        gauge(
            "process_resident_memory_bytes",
            "gauge",
            "Memory that the process occupies.",
            usage.resident_pages as f64 * rustix::param::page_size() as f64,
        );
        gauge(
            "process_threads",
            "gauge",
            "Threads of the process.",
            usage.threads as f64,
        );
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        gauge(
            "process_open_fds",
            "gauge",
            "Open files and sockets of the process.",
            open.count() as f64,
        );
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Usage {
    cpu_ticks: u64,
    threads: u64,
    resident_pages: u64,
}

/// The fields of `/proc/<pid>/stat`, proc_pid_stat(5), that are of use here.
fn parse_stat(stat: &str) -> Option<Usage> {
    // The second field, the command's name in parentheses, may hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `rest` starts with field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Usage {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_stat_are_found_behind_an_odd_name() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 7 0 100 \
                    1000000 321 18446744073709551615";
        let usage = Usage {
            cpu_ticks: 400,
            threads: 7,
            resident_pages: 321,
        };
        assert_eq!(parse_stat(stat), Some(usage));
        assert_eq!(parse_stat("4711 (cut"), None);
        assert_eq!(parse_stat("4711 (cut) S 1"), None);
    }
}
