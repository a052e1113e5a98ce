//! Metrics as tables: what a crate measures stands in one constant, from which the metrics are
//! described to the exporter and `docs/metrics.md` is written.
//!
//! ```
//! use postrider_telemetry::metric::{self, Kind, MetricInfo};
//!
//! pub const METRICS: &[MetricInfo] = &[MetricInfo {
//!     name: "postrider.smtp.server.transactions",
//!     kind: Kind::Counter,
//!     unit: "{transaction}",
//!     help: "Mail transactions that ended.",
//!     labels: &["outcome"],
//! }];
//! metric::describe(METRICS);
//! ```

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::buckets;

/// One metric: its name, what it counts, in which unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricInfo {
    /// By OpenTelemetry's conventions, e.g. `postrider.smtp.server.transaction.duration`: dots, no
    /// unit, no `_total`. See [`MetricInfo::prometheus_name`] for the name on `/metrics`.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// UCUM: `s`, `By`, `{message}`. For a histogram it also chooses the buckets.
    pub unit: &'static str,
    /// One or two sentences.
    pub help: &'static str,
    /// Names of its labels. Never an address or an id: their values must be few.
    pub labels: &'static [&'static str],
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
}

impl Kind {
    /// `counter`, `gauge`, `histogram`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl MetricInfo {
    fn exported_unit(&self) -> Option<Unit> {
        match self.unit {
            "s" => Some(Unit::Seconds),
            "By" => Some(Unit::Bytes),
            _ => None,
        }
    }

    /// The name on `/metrics`, where Prometheus' conventions hold: underscores, the unit, and
    /// `_total` on a counter.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let mut name: String = self
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        if let Some(unit) = self.exported_unit() {
            name.push('_');
            name.push_str(unit.as_str());
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

/// Tells the exporter what the metrics of a crate are.
///
/// To be called after [`start`](crate::start), which installs the exporter, and before handles
/// of histograms are made, because the unit chooses a histogram's buckets. Calling it again
/// changes nothing; without an exporter it does nothing.
pub fn describe(metrics: &'static [MetricInfo]) {
    for metric in metrics {
        let unit = metric.exported_unit().unwrap_or(Unit::Count);
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram => {
                buckets::choose(metric.name, metric.unit);
                describe_histogram!(metric.name, unit, metric.help);
            }
        }
    }
}

/// A table of metrics as a page shows it, in Markdown.
#[must_use]
pub fn markdown(metrics: &[MetricInfo]) -> String {
    let mut page =
        String::from("| metric | kind, unit, labels | what it says |\n| --- | --- | --- |\n");
    for metric in metrics {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("; by {}", labels.join(", "))
        };
        page.push_str(&format!(
            "| `{}`<br>`{}` | {}, {}{labels} | {} |\n",
            metric.name,
            metric.prometheus_name(),
            metric.kind.name(),
            metric.unit,
            metric.help.replace('|', "\\|"),
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_page_follow_prometheus() {
        let info = |name, kind, unit| MetricInfo {
            name,
            kind,
            unit,
            help: "",
            labels: &[],
        };
        for (metric, name) in [
            (
                info("postrider.queue.wait", Kind::Histogram, "s"),
                "postrider_queue_wait_seconds",
            ),
            (
                info("postrider.delivery.attempts", Kind::Counter, "{attempt}"),
                "postrider_delivery_attempts_total",
            ),
            (
                info("postrider.queue.store.size", Kind::Gauge, "By"),
                "postrider_queue_store_size_bytes",
            ),
        ] {
            assert_eq!(metric.prometheus_name(), name);
        }
    }
}
