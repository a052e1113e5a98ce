//! Where ended spans go: one batch processor for the process, shared by the spans of messages and
//! by ordinary `tracing` spans.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor};

static SINK: ArcSwapOption<Sink> = ArcSwapOption::const_empty();

/// The process' sink, if spans are exported.
pub(crate) fn get() -> Option<Arc<Sink>> {
    SINK.load_full()
}

/// Sets or clears the process' sink.
pub(crate) fn set(sink: Option<Arc<Sink>>) {
    SINK.store(sink);
}

/// Takes ended spans and passes them on in batches.
#[derive(Debug)]
pub(crate) struct Sink {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    /// Trace ids whose low half is below are sampled; `None` samples all.
    threshold: Option<u64>,
}

impl Sink {
    /// A sink in front of `processor`, which samples this share of the traces.
    pub(crate) fn new(mut processor: BatchSpanProcessor, resource: &Resource, ratio: f64) -> Self {
        processor.set_resource(resource);
        Self {
            processor,
            scope: InstrumentationScope::builder("postrider")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            // The cast saturates, and a ratio of 0 gives the threshold 0.
            threshold: (ratio < 1.0).then_some((ratio * u64::MAX as f64) as u64),
        }
    }

    /// Whether the trace is recorded. Every process that asks decides alike.
    pub(crate) fn samples(&self, trace_id: u128) -> bool {
        // The low half of the id: the part that W3C asks to be random.
        self.threshold
            .is_none_or(|threshold| (trace_id as u64) < threshold)
    }

    pub(super) fn scope(&self) -> InstrumentationScope {
        self.scope.clone()
    }

    pub(super) fn export(&self, span: SpanData) {
        self.processor.on_end(span);
    }

    /// Sends what waits, then stops. Blocks for at most `timeout`.
    pub(crate) fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }
}

/// The same sink, as a processor for `tracing`'s spans.
#[derive(Debug, Clone)]
pub(crate) struct SharedSink(pub(crate) Arc<Sink>);

impl SpanProcessor for SharedSink {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.0.processor.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        // The guard shuts the sink down, once.
        Ok(())
    }
}
