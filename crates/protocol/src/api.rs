//! The traits through which services meet.
//!
//! Each has a form in memory (the service itself), one over gRPC, and whatever a test needs;
//! the same lines compose one process or many. Errors are gRPC's, so that a caller sees the
//! same in both modes: `UNAVAILABLE` and `RESOURCE_EXHAUSTED` mean try later, `INVALID_ARGUMENT`
//! means never.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tonic::Status;

use crate::mailbox_v1::{
    AuthenticateRequest, AuthenticateResponse, DeliverHeader, DeliverResult, lookup_response,
};
use crate::queue_v1::{
    ActRecord, ActRequest, ActResponse, ActsRequest, ActsResponse, EnqueueResult, FindRequest,
    FindResponse, JourneyEvent, JourneyResponse, ListRequest, ListResponse, NewMessage,
    PutBodyResponse, QueueFrame, ResumeRequest, ResumeResponse, ShowResponse, StatsResponse,
    SuspendRequest, SuspendResponse, SuspensionsResponse, UndoRequest, WorkerFrame,
};

/// A result of a call between services.
pub type Result<T> = std::result::Result<T, Status>;

/// A body on its way, in pieces. An error ends it.
pub type BodyStream = BoxStream<'static, Result<Bytes>>;

/// What the edge and the delivery workers ask of the queue (`postrider.queue.v1.Queue`).
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Makes messages durable; one result a message, in order. Idempotent by queue id.
    /// A caller may hand over one message: batches form behind this call.
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>>;

    /// Stores a large body, to be named by an enqueue soon after.
    async fn put_body(&self, body: BodyStream) -> Result<PutBodyResponse>;

    /// Streams a stored body. `NOT_FOUND` if it is missing.
    async fn get_body(&self, name: String) -> Result<BodyStream>;

    /// A worker's conversation. It ends when either stream ends; the worker's leases then
    /// lapse and what it held is due again.
    async fn work(
        &self,
        from_worker: BoxStream<'static, WorkerFrame>,
    ) -> Result<BoxStream<'static, Result<QueueFrame>>>;
}

/// What operators ask of the queue (`postrider.queue.v1.QueueAdmin`).
#[async_trait]
pub trait QueueAdmin: Send + Sync + 'static {
    /// Pages through deliveries.
    async fn list(&self, request: ListRequest) -> Result<ListResponse>;
    /// One message with its deliveries. `NOT_FOUND` if it is not (any more) queued.
    async fn show(&self, queue_id: String) -> Result<ShowResponse>;
    /// Acts on every delivery that a filter matches. What takes long goes on in the background.
    async fn act(&self, request: ActRequest) -> Result<ActResponse>;
    /// Acts, the newest first, each with its progress.
    async fn acts(&self, request: ActsRequest) -> Result<ActsResponse>;
    /// Undoes a hold, or ends an act that still runs. `NOT_FOUND` if it is not known,
    /// `FAILED_PRECONDITION` if it cannot be undone.
    async fn undo(&self, request: UndoRequest) -> Result<ActRecord>;
    /// Stops attempts at what matches.
    async fn suspend(&self, request: SuspendRequest) -> Result<SuspendResponse>;
    /// Ends a suspension.
    async fn resume(&self, request: ResumeRequest) -> Result<ResumeResponse>;
    /// What is suspended now.
    async fn suspensions(&self) -> Result<SuspensionsResponse>;
    /// Queue ids by sender or recipient.
    async fn find(&self, request: FindRequest) -> Result<FindResponse>;
    /// Journeys by queue id or Message-ID; empty if none is known.
    async fn journey(&self, query: String) -> Result<JourneyResponse>;
    /// What has happened and then what happens, until the message has ended.
    async fn follow_journey(
        &self,
        query: String,
    ) -> Result<BoxStream<'static, Result<JourneyEvent>>>;
    /// Counts.
    async fn stats(&self) -> Result<StatsResponse>;
}

/// Who exists, and who may come in (`postrider.mailbox.v1.Directory`).
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// One verdict an address, in order.
    async fn lookup(&self, addresses: Vec<String>) -> Result<Vec<lookup_response::Verdict>>;
    /// Checks a password.
    async fn authenticate(&self, request: AuthenticateRequest) -> Result<AuthenticateResponse>;
}

/// Final delivery (`postrider.mailbox.v1.Mailbox`).
#[async_trait]
pub trait Mailbox: Send + Sync + 'static {
    /// Delivers to every recipient of the header; one result each, after its copy is on disk.
    async fn deliver(&self, header: DeliverHeader, body: BodyStream) -> Result<Vec<DeliverResult>>;
}
