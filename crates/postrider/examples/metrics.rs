//! Prints what every crate measures, for `docs/metrics.md` (see `cargo xtask docs`).

use postrider_telemetry::metric::{MetricInfo, markdown};

fn main() {
    let parts: [(&str, &[MetricInfo]); 5] = [
        ("Edge", postrider_edge::metrics::METRICS),
        ("Queue", postrider_queue::metrics::METRICS),
        ("Delivery", postrider_delivery::METRICS),
        ("Mailbox", postrider_mailbox::metrics::METRICS),
        (
            "Between services",
            postrider_protocol::grpc::metrics::METRICS,
        ),
    ];
    for (name, metrics) in parts {
        println!("## {name}\n\n{}", markdown(metrics));
    }
    println!("{}", PROCESS.trim_start());
}

const PROCESS: &str = "
## Process

Under the names that Prometheus' own client libraries use: `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_threads`, `process_open_fds`.
";
