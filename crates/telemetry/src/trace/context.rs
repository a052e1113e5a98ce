//! Where a message's trace stands: the W3C trace context.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};

use super::sink;

/// The flag of W3C Trace Context section 3.2.2.5.1: the caller may have recorded its span.
const SAMPLED: u8 = 1;

/// A trace and a span in it, as `traceparent` carries them (W3C Trace Context).
///
/// Printed, it is a `traceparent`, or nothing if there is no span to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) flags: u8,
}

impl TraceContext {
    /// A new trace that has no span yet: the span that is started under it is its root.
    /// Whether the trace is recorded is decided here, once for all of its spans.
    #[must_use]
    pub fn new_root() -> Self {
        let trace_id = nonzero(rand::random::<u128>);
        let flags = match sink::get() {
            Some(sink) if sink.samples(trace_id) => SAMPLED,
            _ => 0,
        };
        Self {
            trace_id,
            span_id: 0,
            flags,
        }
    }

    /// No trace: a span that is started under it begins one.
    #[must_use]
    pub const fn disabled() -> Self {
        Self {
            trace_id: 0,
            span_id: 0,
            flags: 0,
        }
    }

    /// The context that a stored or received `traceparent` names; a new trace if it names none. A
    /// message is never refused for its trace.
    #[must_use]
    pub fn from_traceparent(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| Self::new_root())
    }

    /// The context of the current `tracing` span, if that span is exported.
    #[must_use]
    pub fn current() -> Option<Self> {
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;
        sink::get()?;
        let context = tracing::Span::current().context();
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| Self::from(span))
    }

    /// Makes `span`, which was not entered yet, a child of this context.
    pub fn adopt(&self, span: &tracing::Span) {
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;
        if self.names_a_span() && sink::get().is_some() {
            let parent =
                opentelemetry::Context::new().with_remote_span_context(self.to_span_context());
            // It fails only where no OpenTelemetry layer is installed, and then nothing is lost.
            drop(span.set_parent(parent));
        }
    }

    /// Whether this names a span, and not only a trace or nothing.
    #[must_use]
    pub const fn names_a_span(&self) -> bool {
        self.trace_id != 0 && self.span_id != 0
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace's id as 32 hexadecimal digits, e.g. for a log line or a link to a trace store.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The same trace, at a new span.
    pub(super) fn with_new_span(self) -> Self {
        Self {
            span_id: nonzero(rand::random::<u64>),
            ..self
        }
    }

    pub(super) fn to_span_context(self) -> SpanContext {
        SpanContext::new(
            TraceId::from(self.trace_id),
            SpanId::from(self.span_id),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        )
    }
}

impl From<&SpanContext> for TraceContext {
    fn from(span: &SpanContext) -> Self {
        Self {
            trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(span.span_id().to_bytes()),
            flags: span.trace_flags().to_u8() & SAMPLED,
        }
    }
}

/// Zero means "none" in a trace context.
fn nonzero<T: Default + PartialEq>(random: impl Fn() -> T) -> T {
    loop {
        let value = random();
        if value != T::default() {
            return value;
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.names_a_span() {
            return Ok(());
        }
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

/// Text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTraceparent;

impl fmt::Display for InvalidTraceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a traceparent: \"00-<32 hex digits>-<16 hex digits>-<2 hex digits>\"")
    }
}

impl std::error::Error for InvalidTraceparent {}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    /// W3C Trace Context section 3.2. Later versions may append fields, which are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let mut fields = text.split('-');
        let version = hex(fields.next(), 2)?;
        let trace_id = hex(fields.next(), 32)?;
        let span_id = hex(fields.next(), 16)?;
        let flags = hex(fields.next(), 2)?;
        if version == 0xff || version == 0 && fields.next().is_some() {
            return Err(InvalidTraceparent);
        }
        let context = Self {
            trace_id,
            // The lengths that were checked make both casts exact.
            span_id: span_id as u64,
            flags: flags as u8 & SAMPLED,
        };
        context
            .names_a_span()
            .then_some(context)
            .ok_or(InvalidTraceparent)
    }
}

/// A field of exactly `digits` lower-case hexadecimal digits.
fn hex(field: Option<&str>, digits: usize) -> Result<u128, InvalidTraceparent> {
    field
        .filter(|field| field.len() == digits)
        .filter(|field| {
            field
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
        .and_then(|field| u128::from_str_radix(field, 16).ok())
        .ok_or(InvalidTraceparent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_parses_and_prints() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        // A later version, with more behind it.
        let later = format!("01{}-more", &EXAMPLE[2..]);
        assert_eq!(later.parse::<TraceContext>().unwrap(), context);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for text in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(text.parse::<TraceContext>().is_err(), "{text}");
        }
    }

    #[test]
    fn without_a_span_nothing_is_printed() {
        assert_eq!(TraceContext::disabled().to_string(), "");
        assert_eq!(TraceContext::new_root().to_string(), "");
        assert_ne!(
            TraceContext::from_traceparent("nonsense").trace_id(),
            "0".repeat(32)
        );
    }
}
