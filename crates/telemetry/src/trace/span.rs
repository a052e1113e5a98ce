//! A span of a message's trace.

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{Event, Link, SpanId, SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::sink::{self, Sink};
use super::{Attribute, TraceContext};

/// One span of a message's trace. It ends when it is dropped, unless [`MessageSpan::end_at`] has said
/// when it ended.
///
/// If the trace is not recorded, it is no more than its context: nothing is allocated and
/// nothing is converted.
#[derive(Debug)]
pub struct MessageSpan {
    context: TraceContext,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
struct Recording {
    sink: Arc<Sink>,
    name: &'static str,
    parent: u64,
    kind: SpanKind,
    start: SystemTime,
    end: Option<SystemTime>,
    attributes: Vec<KeyValue>,
    events: Vec<Event>,
    links: Vec<Link>,
    status: Status,
}

impl MessageSpan {
    /// Starts a span below `parent`, now. Below a [`TraceContext::new_root`] it is the trace's root.
    #[must_use]
    pub fn start(name: &'static str, parent: &TraceContext) -> Self {
        let parent = if parent.trace_id == 0 {
            TraceContext::new_root()
        } else {
            *parent
        };
        let sink = sink::get().filter(|_| parent.is_sampled());
        // A span that is not recorded must not stand between its parent and its children.
        if sink.is_none() && parent.names_a_span() {
            return Self {
                context: parent,
                recording: None,
            };
        }
        Self {
            context: parent.with_new_span(),
            recording: sink.map(|sink| {
                Box::new(Recording {
                    sink,
                    name,
                    parent: parent.span_id,
                    kind: SpanKind::Internal,
                    start: SystemTime::now(),
                    end: None,
                    attributes: Vec::new(),
                    events: Vec::new(),
                    links: Vec::new(),
                    status: Status::Unset,
                })
            }),
        }
    }

    /// Starts a span below this one, now.
    #[must_use]
    pub fn child(&self, name: &'static str) -> Self {
        Self::start(name, &self.context)
    }

    /// This span's context: what its children, here or elsewhere, take as their parent.
    #[must_use]
    pub const fn context(&self) -> TraceContext {
        self.context
    }

    /// Whether the span will be exported: worth asking before a costly attribute is made.
    #[must_use]
    pub const fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Sets the span's kind: server, client, producer, consumer. Internal unless set.
    pub fn kind(&mut self, kind: SpanKind) -> &mut Self {
        if let Some(recording) = &mut self.recording {
            recording.kind = kind;
        }
        self
    }

    /// Sets an attribute, by OpenTelemetry's names where they have one.
    pub fn set(&mut self, key: &'static str, value: impl Attribute) -> &mut Self {
        if let Some(recording) = &mut self.recording {
            recording.put(key, value.into_value());
        }
        self
    }

    /// Marks the span as failed. `kind` is a word of a small set, e.g. "timeout", and becomes the
    /// attribute `error.type`.
    pub fn error(&mut self, kind: &'static str) -> &mut Self {
        if let Some(recording) = &mut self.recording {
            recording.status = Status::error(kind);
            recording.put("error.type", Value::from(kind));
        }
        self
    }

    /// Adds something that happened at one moment, now.
    pub fn event(&mut self, name: &'static str) -> &mut Self {
        if let Some(recording) = &mut self.recording {
            let event = Event::new(name, SystemTime::now(), Vec::new(), 0);
            recording.events.push(event);
        }
        self
    }

    /// Links the span to another one that is not its parent, e.g. to the attempt before.
    pub fn link(&mut self, other: &TraceContext) -> &mut Self {
        if let Some(recording) = &mut self.recording
            && other.names_a_span()
        {
            recording
                .links
                .push(Link::with_context(other.to_span_context()));
        }
        self
    }

    /// Says when the span really started, e.g. when a delivery became due.
    pub fn start_at(&mut self, time: SystemTime) -> &mut Self {
        if let Some(recording) = &mut self.recording {
            recording.start = time;
        }
        self
    }

    /// Says when the span really ended.
    pub fn end_at(&mut self, time: SystemTime) -> &mut Self {
        if let Some(recording) = &mut self.recording {
            recording.end = Some(time);
        }
        self
    }

    /// Ends the span now. The same as dropping it, where a name reads better.
    pub fn end(self) {}
}

impl Recording {
    fn put(&mut self, key: &'static str, value: Value) {
        match self.attributes.iter_mut().find(|a| a.key.as_str() == key) {
            Some(attribute) => attribute.value = value,
            None => self.attributes.push(KeyValue::new(key, value)),
        }
    }
}

impl Drop for MessageSpan {
    fn drop(&mut self) {
        let Some(recording) = self.recording.take() else {
            return;
        };
        let recording = *recording;
        let mut events = SpanEvents::default();
        events.events = recording.events;
        let mut links = SpanLinks::default();
        links.links = recording.links;
        recording.sink.export(SpanData {
            span_context: self.context.to_span_context(),
            parent_span_id: SpanId::from(recording.parent),
            parent_span_is_remote: false,
            span_kind: recording.kind,
            name: recording.name.into(),
            start_time: recording.start,
            end_time: recording
                .end
                .unwrap_or_else(SystemTime::now)
                .max(recording.start),
            attributes: recording.attributes,
            dropped_attributes_count: 0,
            events,
            links,
            status: recording.status,
            instrumentation_scope: recording.sink.scope(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_is_not_recorded_still_passes_the_context_on() {
        let root = MessageSpan::start("smtp.transaction", &TraceContext::new_root());
        assert!(!root.is_recording());
        assert!(root.context().names_a_span());
        let stored = root.context().to_string();
        // Days later, in another process.
        let attempt =
            MessageSpan::start("delivery.attempt", &TraceContext::from_traceparent(&stored));
        assert_eq!(attempt.context(), root.context());
    }

    #[test]
    fn below_nothing_a_trace_begins() {
        let span = MessageSpan::start("smtp.transaction", &TraceContext::disabled());
        assert!(span.context().names_a_span());
    }

    #[test]
    fn an_unrecorded_span_is_small() {
        assert!(size_of::<MessageSpan>() <= 48);
    }
}
