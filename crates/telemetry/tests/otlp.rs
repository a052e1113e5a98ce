//! What a collector receives, what `/metrics` and the health pages show. One test, because a process
//! has one telemetry.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind as WireKind, status::StatusCode};
use postrider_telemetry::metric::{self, Kind, MetricInfo};
use postrider_telemetry::trace::{MessageSpan, SpanKind, TraceContext};
use postrider_telemetry::{TelemetryConfig, health};
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
        );
        (collector, address)
    }

    /// Every span by its name.
    fn spans(&self) -> HashMap<String, Span> {
        let requests = self.0.lock().unwrap();
        let scopes = requests
            .iter()
            .flat_map(|request| &request.resource_spans)
            .flat_map(|resource| &resource.scope_spans);
        scopes
            .flat_map(|scope| &scope.spans)
            .map(|span| (span.name.clone(), span.clone()))
            .collect()
    }

    fn resource(&self, key: &str) -> String {
        let requests = self.0.lock().unwrap();
        let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
        text(&resource.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let attribute = attributes.iter().find(|a| a.key == key).unwrap();
    match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const METRICS: &[MetricInfo] = &[
    MetricInfo {
        name: "postrider.test.messages",
        kind: Kind::Counter,
        unit: "{message}",
        help: "Messages of the test.",
        labels: &["outcome"],
    },
    MetricInfo {
        name: "postrider.test.duration",
        kind: Kind::Histogram,
        unit: "s",
        help: "How long the test took.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.test.size",
        kind: Kind::Histogram,
        unit: "By",
        help: "How large it was.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.test.batch",
        kind: Kind::Histogram,
        unit: "{message}",
        help: "Messages in a batch.",
        labels: &[],
    },
];

/// The spans of one message: the edge, then, from the stored text, the queue and the delivery.
fn trace_a_message(received: SystemTime) -> (TraceContext, TraceContext) {
    let mut root = MessageSpan::start("smtp.transaction", &TraceContext::new_root());
    root.kind(SpanKind::Server)
        .set("postrider.queue_id", "01abc")
        .set("postrider.size", 4096_u64)
        .start_at(received);
    let stored = root.context().to_string();
    root.end();

    let parent = TraceContext::from_traceparent(&stored);
    let mut wait = MessageSpan::start("queue.wait", &parent);
    wait.start_at(received)
        .end_at(received + Duration::from_secs(3 * 86400));
    wait.end();
    let mut attempt = MessageSpan::start("delivery.attempt", &parent);
    attempt.link(&parent).event("connected");
    let mut dialogue = attempt.child("delivery.dialogue");
    dialogue.error("timeout");
    drop(dialogue);
    (parent, attempt.context())
}

fn check_spans(collector: &Collector, root: TraceContext, attempt: TraceContext) {
    let spans = collector.spans();
    let parent_of = |name: &str| {
        let parent = &spans[name].parent_span_id;
        let by_id = spans.iter().find(|(_, span)| span.span_id == *parent);
        by_id.map(|(name, _)| name.as_str())
    };
    assert_eq!(spans["smtp.transaction"].parent_span_id, Vec::<u8>::new());
    assert_eq!(parent_of("queue.wait"), Some("smtp.transaction"));
    assert_eq!(parent_of("delivery.attempt"), Some("smtp.transaction"));
    assert_eq!(parent_of("delivery.dialogue"), Some("delivery.attempt"));
    // An ordinary span of the tracing crate, below a message's.
    assert_eq!(parent_of("rpc"), Some("delivery.attempt"));
    for span in spans.values() {
        let trace_id: String = span.trace_id.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(trace_id, root.trace_id(), "{}", span.name);
    }
    assert_eq!(attempt.trace_id(), root.trace_id());
    assert_eq!(spans.len(), 5, "{:?}", spans.keys());

    let transaction = &spans["smtp.transaction"];
    assert_eq!(transaction.kind(), WireKind::Server);
    assert_eq!(text(&transaction.attributes, "postrider.queue_id"), "01abc");
    assert_eq!(text(&transaction.attributes, "postrider.size"), "4096");
    let wait = &spans["queue.wait"];
    let waited = wait.end_time_unix_nano - wait.start_time_unix_nano;
    assert_eq!(waited, 3 * 86400 * 1_000_000_000);
    let dialogue = &spans["delivery.dialogue"];
    assert_eq!(dialogue.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(text(&dialogue.attributes, "error.type"), "timeout");
    assert_eq!(spans["delivery.attempt"].links.len(), 1);
    assert_eq!(spans["delivery.attempt"].events[0].name, "connected");

    assert_eq!(collector.resource("service.name"), "postrider-edge");
    assert_eq!(collector.resource("service.instance.id").len(), 32);
}

fn check_pages(address: SocketAddr) {
    assert!(get(address, "/health/live").starts_with("HTTP/1.1 200"));
    let part = health::global().component("edge");
    let page = get(address, "/health/ready");
    assert!(page.starts_with("HTTP/1.1 503") && page.contains("edge: not ready: starting"));
    part.ready();
    let page = get(address, "/health/ready");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("edge: ready"));

    metric::describe(METRICS);
    metrics::counter!("postrider.test.messages", "outcome" => "delivered").increment(7);
    metrics::histogram!("postrider.test.duration").record(0.02);
    metrics::histogram!("postrider.test.size").record(5000.0);
    metrics::histogram!("postrider.test.batch").record(3.0);
    let page = get(address, "/metrics");
    for line in [
        "postrider_test_messages_total{outcome=\"delivered\"} 7",
        "# TYPE postrider_test_duration_seconds histogram",
        "postrider_test_duration_seconds_bucket{le=\"0.01\"} 0",
        "postrider_test_duration_seconds_bucket{le=\"0.025\"} 1",
        "postrider_test_size_bytes_bucket{le=\"4096\"} 0",
        "postrider_test_size_bytes_bucket{le=\"16384\"} 1",
        "postrider_test_batch_bucket{le=\"4\"} 1",
        "# HELP postrider_test_batch Messages in a batch.",
    ] {
        assert!(page.contains(&format!("{line}\n")), "{line}\nin {page}");
    }
    for name in METRICS.iter().map(MetricInfo::prometheus_name) {
        assert!(
            page.contains(&format!("# TYPE {name} ")),
            "{name}\nin {page}"
        );
    }
    assert!(page.contains("\nprocess_cpu_seconds_total "));
    assert!(page.contains("\nprocess_resident_memory_bytes "));
    assert!(page.contains("\nprocess_open_fds "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_reaches_the_collector_and_the_pages_show_the_rest() {
    let (collector, address) = Collector::start().await;
    let config = TelemetryConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        otlp_endpoint: Some(format!("http://{address}")),
        log: "off".to_owned(),
        ..TelemetryConfig::default()
    };
    let telemetry = postrider_telemetry::start("edge", &config).unwrap();
    assert!(postrider_telemetry::start("edge", &config).is_err());

    let received = SystemTime::now() - Duration::from_secs(3 * 86400);
    let (root, attempt) = trace_a_message(received);
    assert!(root.is_sampled());
    let span = tracing::info_span!(target: "postrider", "rpc");
    attempt.adopt(&span);
    span.in_scope(|| {
        let current = TraceContext::current().unwrap();
        assert_eq!(current.trace_id(), root.trace_id());
        tracing::debug_span!(target: "postrider", "too fine to be exported").in_scope(|| ());
        tracing::info_span!(target: "h2", "not ours").in_scope(|| ());
    });
    drop(span);

    let pages = telemetry.addresses()[0];
    tokio::task::spawn_blocking(move || check_pages(pages))
        .await
        .unwrap();
    // Nothing was exported by time yet: dropping the guard sends what waits.
    tokio::task::spawn_blocking(move || drop(telemetry))
        .await
        .unwrap();
    check_spans(&collector, root, attempt);
    assert!(!postrider_telemetry::trace::enabled());
}
