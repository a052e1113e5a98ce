//! Services that only remember what they were asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use postrider_protocol::api::{BodyStream, Directory, Mailbox, Queue, QueueAdmin, Result};
use postrider_protocol::grpc::{Server, ServicesConfig};
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, AuthenticateResponse, DeliverHeader, DeliverResult, authenticate_response,
    lookup_response,
};
use postrider_protocol::queue_v1::{
    ActRecord, ActRequest, ActResponse, ActsRequest, ActsResponse, CompletionAck, CompletionAcks,
    DeliveryStatus, EnqueueResult, FindRequest, FindResponse, Journey, JourneyEvent,
    JourneyResponse, ListRequest, ListResponse, NewMessage, PutBodyResponse, QueueFrame,
    ResumeRequest, ResumeResponse, ShowResponse, StatsResponse, SuspendRequest, SuspendResponse,
    Suspension, SuspensionsResponse, UndoRequest, Welcome, WorkerFrame, enqueue_result,
    queue_frame, worker_frame,
};
use postrider_protocol::{Code, Status};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A queue that accepts everything.
#[derive(Default)]
pub(crate) struct FakeQueue {
    /// Calls of `enqueue`, and messages in them.
    pub(crate) calls: AtomicUsize,
    pub(crate) messages: AtomicUsize,
    /// Bytes of put bodies that were taken so far.
    pub(crate) taken: AtomicUsize,
    /// How long an enqueue takes.
    pub(crate) delay: Duration,
}

#[async_trait]
impl Queue for FakeQueue {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.messages.fetch_add(messages.len(), Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        Ok(messages
            .into_iter()
            .map(|message| EnqueueResult {
                status: enqueue_result::Status::Accepted.into(),
                detail: message.queue_id,
            })
            .collect())
    }

    async fn put_body(&self, mut body: BodyStream) -> Result<PutBodyResponse> {
        let mut size = 0;
        while let Some(piece) = body.try_next().await? {
            size += piece.len() as u64;
            self.taken.fetch_add(piece.len(), Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
        let name = "stored".to_owned();
        Ok(PutBodyResponse { name, size })
    }

    /// "<size>" streams so many bytes in pieces; "broken" breaks in the middle.
    async fn get_body(&self, name: String) -> Result<BodyStream> {
        let piece = || Ok(Bytes::from(vec![b'x'; 64 << 10]));
        match name.as_str() {
            "broken" => Ok(stream::iter([piece(), Err(Status::data_loss("bad disk"))]).boxed()),
            size => {
                let size: usize = size.parse().map_err(|_| Status::not_found(name.clone()))?;
                Ok(stream::iter((0..size / (64 << 10)).map(move |_| piece())).boxed())
            }
        }
    }

    /// Welcomes, then acknowledges each completion.
    async fn work(
        &self,
        from_worker: BoxStream<'static, WorkerFrame>,
    ) -> Result<BoxStream<'static, Result<QueueFrame>>> {
        let welcome = queue_frame::Frame::Welcome(Welcome {
            lease_ms: 5000,
            instance: "queue@test".to_owned(),
            ..Welcome::default()
        });
        let acks = from_worker.filter_map(|frame| async {
            let Some(worker_frame::Frame::Completions(batch)) = frame.frame else {
                return None;
            };
            let acks = batch
                .completions
                .into_iter()
                .map(|completion| CompletionAck {
                    delivery_id: completion.delivery_id,
                    ..CompletionAck::default()
                })
                .collect();
            Some(queue_frame::Frame::Acks(CompletionAcks { acks }))
        });
        let frames = stream::iter([welcome])
            .chain(acks)
            .map(|frame| Ok(QueueFrame { frame: Some(frame) }));
        Ok(frames.boxed())
    }
}

#[async_trait]
impl QueueAdmin for FakeQueue {
    async fn list(&self, request: ListRequest) -> Result<ListResponse> {
        Ok(ListResponse {
            deliveries: vec![DeliveryStatus::default(); request.limit as usize],
            next_page_token: request.page_token,
        })
    }

    async fn show(&self, queue_id: String) -> Result<ShowResponse> {
        Err(Status::not_found(queue_id))
    }

    async fn act(&self, request: ActRequest) -> Result<ActResponse> {
        Ok(ActResponse {
            matched: 3,
            changed: if request.preview { 0 } else { 3 },
            sample: vec![request.operator],
            ..ActResponse::default()
        })
    }

    async fn acts(&self, request: ActsRequest) -> Result<ActsResponse> {
        Ok(ActsResponse {
            acts: vec![ActRecord::default(); request.limit as usize],
        })
    }

    async fn undo(&self, request: UndoRequest) -> Result<ActRecord> {
        Err(Status::not_found(request.act_id))
    }

    async fn suspend(&self, request: SuspendRequest) -> Result<SuspendResponse> {
        Ok(SuspendResponse {
            suspension: request.suspension,
            matched: u64::from(request.preview),
            ..SuspendResponse::default()
        })
    }

    async fn resume(&self, request: ResumeRequest) -> Result<ResumeResponse> {
        Ok(ResumeResponse {
            resumed: request.id == "s1",
        })
    }

    async fn suspensions(&self) -> Result<SuspensionsResponse> {
        Ok(SuspensionsResponse {
            suspensions: vec![Suspension::default()],
        })
    }

    async fn find(&self, request: FindRequest) -> Result<FindResponse> {
        Ok(FindResponse {
            queue_ids: vec![request.sender],
        })
    }

    async fn journey(&self, query: String) -> Result<JourneyResponse> {
        let journey = Journey {
            message_id: query,
            ..Journey::default()
        };
        Ok(JourneyResponse {
            journeys: vec![journey],
        })
    }

    async fn follow_journey(
        &self,
        query: String,
    ) -> Result<BoxStream<'static, Result<JourneyEvent>>> {
        let event = |at| JourneyEvent {
            time_us: at,
            instance: query.clone(),
            what: None,
        };
        let mut events: Vec<_> = (0..3).map(|at| Ok(event(at))).collect();
        events.push(Err(Status::aborted("the end")));
        Ok(stream::iter(events).boxed())
    }

    async fn stats(&self) -> Result<StatsResponse> {
        Ok(StatsResponse {
            accepted: 7,
            ..StatsResponse::default()
        })
    }
}

/// Mailboxes in which only alice lives.
pub(crate) struct FakeMailbox;

#[async_trait]
impl Directory for FakeMailbox {
    async fn lookup(&self, addresses: Vec<String>) -> Result<Vec<lookup_response::Verdict>> {
        Ok(addresses
            .iter()
            .map(|address| match address.as_str() {
                "alice@here.test" => lookup_response::Verdict::Exists,
                _ => lookup_response::Verdict::NoSuchUser,
            })
            .collect())
    }

    async fn authenticate(&self, request: AuthenticateRequest) -> Result<AuthenticateResponse> {
        let verdict = match request.password.as_str() {
            "sesame" => authenticate_response::Verdict::Granted,
            _ => authenticate_response::Verdict::Denied,
        };
        Ok(AuthenticateResponse {
            verdict: verdict.into(),
            account: request.account,
        })
    }
}

#[async_trait]
impl Mailbox for FakeMailbox {
    async fn deliver(&self, header: DeliverHeader, body: BodyStream) -> Result<Vec<DeliverResult>> {
        let content: Vec<Bytes> = body.try_collect().await?;
        let size: usize = content.iter().map(Bytes::len).sum();
        if size as u64 != header.size {
            return Err(Status::invalid_argument("the content has another size"));
        }
        Ok(header
            .recipients
            .into_iter()
            .map(|address| DeliverResult {
                address,
                reply_code: 250,
                ..DeliverResult::default()
            })
            .collect())
    }
}

/// A server with all services, on a port of its own.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(queue: &Arc<FakeQueue>, config: &ServicesConfig) -> Self {
        Self::start_at(queue, config, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(
        queue: &Arc<FakeQueue>,
        config: &ServicesConfig,
        address: SocketAddr,
    ) -> Self {
        let mailbox = Arc::new(FakeMailbox);
        let server = Server::new()
            .queue(queue.clone())
            .queue_admin(queue.clone())
            .directory(mailbox.clone())
            .mailbox(mailbox);
        let bound = server.bind("queue_listen", address, config).await.unwrap();
        let address = bound.local_addr();
        let stop = CancellationToken::new();
        let serving = bound.serve(stop.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            stop,
            task,
        }
    }

    /// Stops it and waits for the end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .unwrap()
            .unwrap();
    }

    /// The section by which clients find it.
    pub(crate) fn config(&self) -> ServicesConfig {
        let address = format!("http://{}", self.address);
        ServicesConfig {
            queue: address.clone(),
            mailbox: address,
            ..ServicesConfig::default()
        }
    }
}

pub(crate) fn message(id: impl ToString) -> NewMessage {
    NewMessage {
        queue_id: id.to_string(),
        ..NewMessage::default()
    }
}

pub(crate) fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}
