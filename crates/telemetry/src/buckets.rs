//! Histogram buckets, chosen by a metric's unit when it is described.
//!
//! The Prometheus exporter fixes buckets by name when it is built, before any service has said
//! what it measures. So there is one exporter for each kind of bucket behind one recorder, which
//! sends each histogram to the exporter that fits its unit.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// From a loopback reply to a five-minute time-out.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0, 300.0,
];
/// From a short note to the largest message that anyone takes.
const BYTES: &[f64] = &[
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Batches, recipients, attempts.
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Buckets {
    Seconds,
    Bytes,
    Counts,
}

static CHOSEN: RwLock<Option<HashMap<&'static str, Buckets>>> = RwLock::new(None);

/// Chooses the buckets of the histogram `name`.
pub(crate) fn choose(name: &'static str, unit: &str) {
    let buckets = match unit {
        "s" => Buckets::Seconds,
        "By" => Buckets::Bytes,
        _ => Buckets::Counts,
    };
    CHOSEN
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .insert(name, buckets);
}

fn chosen(name: &str) -> Buckets {
    CHOSEN
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .and_then(|chosen| chosen.get(name).copied())
        .unwrap_or(Buckets::Seconds)
}

/// One exporter for each kind of bucket; counters and gauges live in the first.
struct BucketRecorder {
    seconds: PrometheusRecorder,
    bytes: PrometheusRecorder,
    counts: PrometheusRecorder,
}

impl BucketRecorder {
    fn histograms(&self, name: &str) -> &PrometheusRecorder {
        match chosen(name) {
            Buckets::Seconds => &self.seconds,
            Buckets::Bytes => &self.bytes,
            Buckets::Counts => &self.counts,
        }
    }
}

/// What renders the metrics that were recorded. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rendering(Arc<[PrometheusHandle; 3]>);

impl Rendering {
    /// All metrics, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.0.iter().map(PrometheusHandle::render).collect()
    }

    /// Folds recorded values into their buckets. Values pile up until it is called.
    pub(crate) fn run_upkeep(&self) {
        self.0.iter().for_each(PrometheusHandle::run_upkeep);
    }
}

/// Installs the process' recorder.
///
/// # Errors
/// There is one already.
pub(crate) fn install() -> anyhow::Result<Rendering> {
    let build = |buckets: &[f64]| {
        PrometheusBuilder::new()
            .with_recommended_naming(true)
            .set_buckets(buckets)
            .map(PrometheusBuilder::build_recorder)
    };
    let recorder = BucketRecorder {
        seconds: build(SECONDS)?,
        bytes: build(BYTES)?,
        counts: build(COUNTS)?,
    };
    let rendering = Rendering(Arc::new([
        recorder.seconds.handle(),
        recorder.bytes.handle(),
        recorder.counts.handle(),
    ]));
    metrics::set_global_recorder(recorder)
        .map_err(|_| anyhow::anyhow!("metrics are recorded already"))?;
    Ok(rendering)
}

impl Recorder for BucketRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.seconds.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.seconds.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.histograms(name.as_str())
            .describe_histogram(name, unit, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.seconds.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.seconds.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.histograms(key.name())
            .register_histogram(key, metadata)
    }
}
