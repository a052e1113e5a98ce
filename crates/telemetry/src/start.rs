//! The one call that starts logs, traces, metrics and health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tokio::task::JoinHandle;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::trace::sink::{self, SharedSink, Sink};
use crate::{TelemetryConfig, buckets, health, http, log};

/// How often recorded values are folded into their buckets, where nobody reads `/metrics`.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(5);
/// How long one export may take before its spans are given up.
const EXPORT: Duration = Duration::from_secs(10);

/// Ended spans that may wait for a slow collector; more are dropped, and mail goes on. Some ten seconds
/// of a busy server.
const WAITING_SPANS: usize = 1 << 16;
/// Spans in one export, and how long the first of them waits at most.
const BATCH: usize = 2048;
const DELAY: Duration = Duration::from_secs(1);

/// Keeps telemetry going. When it is dropped, what waits is sent and the listeners are closed.
pub struct Telemetry {
    filter: log::FilterHandle<Registry>,
    started_with: TelemetryConfig,
    sink: Option<Arc<Sink>>,
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts logs, traces, metrics and health of this process.
///
/// `service` is "edge", "queue", "delivery", "mailbox", or "postrider" where one process runs
/// them all. To be called once, inside a runtime of several threads.
///
/// # Errors
/// A value of the section is wrong, an address is taken, or telemetry was started before.
pub fn start(service: &str, config: &TelemetryConfig) -> anyhow::Result<Telemetry> {
    let service = match service {
        "postrider" => "postrider".to_owned(),
        part => format!("postrider-{part}"),
    };
    let listeners = config
        .listen
        .iter()
        .map(|address| http::bind(*address))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let sink = match &config.otlp_endpoint {
        Some(endpoint) => Some(Arc::new(
            exporter(&service, endpoint, config.trace_sample_ratio)
                .with_context(|| format!("telemetry.otlp_endpoint = {endpoint:?}"))?,
        )),
        None => None,
    };
    let (lines, filter) = log::layer(config.log_format, &config.log)?;
    let spans = sink.clone().map(|sink| {
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                config.trace_sample_ratio,
            ))))
            .with_span_processor(SharedSink(sink))
            .build();
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("postrider"))
            .with_location(false)
            .with_threads(false)
            .with_filter(log::exported_spans())
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init()
        .context("telemetry was started before")?;
    sink::set(sink.clone());
    let metrics = buckets::install()?;

    let mut addresses = Vec::new();
    let mut tasks = Vec::new();
    for listener in listeners {
        addresses.push(listener.local_addr()?);
        let serving = http::serve(listener, metrics.clone(), health::global().clone());
        tasks.push(tokio::spawn(serving));
    }
    tasks.push(tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    }));
    Ok(Telemetry {
        filter,
        started_with: config.clone(),
        sink,
        addresses,
        tasks,
    })
}

fn exporter(service: &str, endpoint: &str, ratio: f64) -> anyhow::Result<Sink> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT)
        .build()?;
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service.to_owned()),
            KeyValue::new("service.namespace", "postrider"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new(
                "service.instance.id",
                format!("{:032x}", rand::random::<u128>()),
            ),
        ])
        .build();
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING_SPANS)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches)
        .build();
    Ok(Sink::new(processor, &resource, ratio))
}

impl Telemetry {
    /// Where metrics and health are served.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes over what can change while the process runs, the log filter, and names what cannot. A filter
    /// that is not understood leaves the old one in force.
    pub fn reload(&self, config: &TelemetryConfig) -> Vec<String> {
        let mut left = Vec::new();
        let filter = log::filter(&config.log);
        if let Err(error) = filter.and_then(|filter| Ok(self.filter.reload(filter)?)) {
            left.push(format!("telemetry.log: {error:#}"));
        }
        let log = config.log.clone();
        let started_with = TelemetryConfig {
            log,
            ..self.started_with.clone()
        };
        if *config != started_with {
            let what = "of [telemetry], only `log` changes before the next start";
            left.push(what.to_owned());
        }
        left
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(sink) = self.sink.take() {
            sink::set(None);
            if let Err(error) = sink.shutdown(FLUSH) {
                tracing::warn!(%error, "the last spans could not be sent");
            }
        }
    }
}
