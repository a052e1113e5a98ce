//! One trace a message: received by OTLP, checked as a tree.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use postrider_tests::peers;
use postrider_tests::server::{Mode, Server, Settings};
use postrider_tests::sink::Sink;
use postrider_tests::source::{self, Load};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::world::settings;

/// Receives spans; every span with the name of the service that sent it.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource_spans in request.into_inner().resource_spans {
            let service = resource_spans
                .resource
                .iter()
                .flat_map(|resource| &resource.attributes)
                .find(|attribute| attribute.key == "service.name")
                .map(|attribute| format!("{:?}", attribute.value))
                .unwrap_or_default();
            let mut spans = self.spans.lock().unwrap();
            for span in resource_spans
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                spans.push((service.clone(), span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        (collector, address)
    }

    /// The spans of the one trace, once those named are all there.
    async fn trace(&self, wanted: &[&str]) -> Vec<(String, Span)> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let spans = self.spans.lock().unwrap().clone();
            let mail: Vec<_> = spans
                .iter()
                .filter(|(_, span)| span.name == "smtp.transaction")
                .collect();
            if let Some((_, root)) = mail.first() {
                let trace: Vec<_> = spans
                    .iter()
                    .filter(|(_, span)| span.trace_id == root.trace_id)
                    .cloned()
                    .collect();
                let missing = wanted.iter().any(|name| {
                    let need = wanted.iter().filter(|other| other == &name).count();
                    trace.iter().filter(|(_, span)| span.name == *name).count() < need
                });
                if !missing {
                    assert_eq!(mail.len(), 1, "one message, one transaction");
                    return trace;
                }
            }
            let names: Vec<_> = spans
                .iter()
                .map(|(service, span)| (service.clone(), span.name.clone()))
                .collect();
            assert!(
                Instant::now() < end,
                "not all of {wanted:?} arrived: {names:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Checks that every span of the trace hangs where it belongs, and that time runs forward.
fn check_tree(trace: &[(String, Span)]) {
    let by_id: HashMap<&[u8], &Span> = trace
        .iter()
        .map(|(_, span)| (span.span_id.as_slice(), span))
        .collect();
    for (_, span) in trace {
        let parent = by_id
            .get(span.parent_span_id.as_slice())
            .map(|parent| parent.name.as_str());
        let expected: &[Option<&str>] = match span.name.as_str() {
            "smtp.transaction" => &[None],
            "queue.wait" | "delivery.attempt" => &[Some("smtp.transaction")],
            "delivery.connect" | "delivery.tls" | "delivery.dialogue" | "mailbox.deliver" => {
                &[Some("delivery.attempt")]
            }
            other => panic!("an unknown span {other}"),
        };
        assert!(
            expected.contains(&parent),
            "{} hangs under {parent:?}",
            span.name
        );
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{} ends before it starts",
            span.name
        );
        if let Some(parent) = by_id.get(span.parent_span_id.as_slice()) {
            assert!(
                parent.start_time_unix_nano <= span.start_time_unix_nano,
                "{} starts before its parent",
                span.name
            );
        }
    }
}

fn one_message(sender: &str, recipient: &str) -> Load {
    Load {
        messages: 1,
        connections: 1,
        sender: sender.to_owned(),
        recipient: recipient.to_owned(),
        ..Load::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_the_session_into_the_mailbox() {
    for mode in [Mode::OneProcess, Mode::Split] {
        let (collector, address) = Collector::start().await;
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            mode,
            otlp: Some(format!("http://{address}")),
            ..settings()
        };
        let server = Server::start(dir.path(), &settings).unwrap();
        let mx = ([127, 0, 0, 1], server.ports.mx).into();
        source::send(mx, &one_message("someone@far.test", "alice@here.test"))
            .await
            .unwrap();
        let trace = collector
            .trace(&[
                "smtp.transaction",
                "queue.wait",
                "delivery.attempt",
                "mailbox.deliver",
            ])
            .await;
        check_tree(&trace);
        let queue_ids: std::collections::HashSet<String> = trace
            .iter()
            .flat_map(|(_, span)| &span.attributes)
            .filter(|attribute| attribute.key.ends_with("queue_id"))
            .map(|attribute| format!("{:?}", attribute.value))
            .collect();
        assert_eq!(queue_ids.len(), 1, "one name in all spans: {queue_ids:?}");
        if mode == Mode::Split {
            let services: std::collections::HashSet<&String> =
                trace.iter().map(|(service, _)| service).collect();
            assert_eq!(services.len(), 4, "{services:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_outlives_a_restart_between_two_attempts() {
    let (collector, address) = Collector::start().await;
    let dir = tempfile::tempdir().unwrap();
    let closed = peers::free_port();
    let settings = Settings {
        otlp: Some(format!("http://{address}")),
        relay_to: Some(([127, 0, 0, 1], closed).into()),
        retry: Duration::from_secs(2),
        environment: vec![("POSTRIDER__DELIVERY__UNREACHABLE", "100ms".to_owned())],
        ..Settings::default()
    };
    let mut server = Server::start(dir.path(), &settings).unwrap();
    let mx = ([127, 0, 0, 1], server.ports.mx).into();
    source::send(mx, &one_message("a@far.test", "b@away.test"))
        .await
        .unwrap();
    collector
        .trace(&[
            "smtp.transaction",
            "queue.wait",
            "delivery.attempt",
            "delivery.connect",
        ])
        .await;
    server.stop("postrider", Duration::from_secs(30)).unwrap();
    let sink = Sink::start_at(([127, 0, 0, 1], closed).into())
        .await
        .unwrap();
    server.start_process("postrider").unwrap();
    sink.wait_for(1, Duration::from_secs(20)).await;
    assert_eq!(sink.counts.different(), 1, "{}", server.logs());
    let trace = collector
        .trace(&[
            "queue.wait",
            "queue.wait",
            "delivery.attempt",
            "delivery.attempt",
            "delivery.dialogue",
        ])
        .await;
    check_tree(&trace);
}
