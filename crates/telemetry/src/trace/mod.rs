//! The one trace of a message.
//!
//! A message's trace begins at its receipt, rests in the queue as a [`TraceContext`] (the text of
//! a W3C `traceparent`), and goes on with each attempt, in other processes, days later. Spans of
//! the `tracing` crate cannot do this: they live in one process and end when they are dropped.
//! So the message's spans are made here, with explicit parents and times, and go to the same
//! exporter as ordinary spans do.

mod attribute;
mod context;
pub(crate) mod sink;
mod span;

pub use attribute::Attribute;
pub use context::{InvalidTraceparent, TraceContext};
pub use opentelemetry::trace::SpanKind;
pub use span::MessageSpan;

/// Whether spans of this process are exported anywhere.
#[must_use]
pub fn enabled() -> bool {
    sink::get().is_some()
}
