//! The caller's trace context in the metadata of a call (W3C Trace Context).
//!
//! A message's own trace travels inside the messages, because a batch has many. This one is for
//! whatever else is traced, e.g. a directory lookup below a session.

use std::future::Future;

use postrider_telemetry::trace::TraceContext;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

const TRACEPARENT: &str = "traceparent";

/// Adds the context of the current span, if it is exported.
pub(super) fn inject(metadata: &mut MetadataMap) {
    if let Some(context) = TraceContext::current()
        && let Ok(value) = MetadataValue::try_from(context.to_string())
    {
        metadata.insert(TRACEPARENT, value);
    }
}

/// Runs a handler in a span below the caller's; in none if the caller traces nothing.
pub(super) fn below_caller<F: Future>(
    metadata: &MetadataMap,
    service: &'static str,
    method: &'static str,
    handler: F,
) -> Instrumented<F> {
    let context = metadata
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<TraceContext>().ok());
    let span = match context {
        Some(context) => {
            let span = tracing::info_span!(
                "rpc",
                otel.kind = "server",
                rpc.system.name = "grpc",
                rpc.service = service,
                rpc.method = method,
            );
            context.adopt(&span);
            span
        }
        None => tracing::Span::none(),
    };
    handler.instrument(span)
}
