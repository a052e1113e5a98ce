//! What operators ask of the queue, over gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{MAX_MESSAGE, QueueClient, deadline};
use crate::api::{QueueAdmin, Result};
use crate::queue_v1::queue_admin_client::QueueAdminClient as Stub;
use crate::queue_v1::queue_admin_server::QueueAdmin as Service;
use crate::queue_v1::{
    ActRecord, ActRequest, ActResponse, ActsRequest, ActsResponse, FindRequest, FindResponse,
    JourneyEvent, JourneyRequest, JourneyResponse, ListRequest, ListResponse, ResumeRequest,
    ResumeResponse, ShowRequest, ShowResponse, StatsRequest, StatsResponse, SuspendRequest,
    SuspendResponse, SuspensionsRequest, SuspensionsResponse, UndoRequest,
};

/// Calls of one kind that are carried out at once; more wait. However many one client makes, most of
/// the processor is left to the mail.
const AT_ONCE: usize = 8;
/// Journeys that are followed at once.
const FOLLOWERS: usize = 256;

/// Serves the operators' side of a queue over gRPC.
pub(super) struct AdminAdapter {
    queue: Arc<dyn QueueAdmin>,
    /// For calls that look. Some take long.
    looks: Semaphore,
    /// For calls that change something, or say how things stand: an operator who stops something does
    /// not wait behind lists.
    acts: Semaphore,
    followers: Arc<Semaphore>,
}

impl AdminAdapter {
    pub(super) fn new(queue: Arc<dyn QueueAdmin>) -> Self {
        Self {
            queue,
            looks: Semaphore::new(AT_ONCE),
            acts: Semaphore::new(AT_ONCE),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
        }
    }

    async fn look<T>(&self, call: impl Future<Output = Result<T>>) -> Result<Response<T>> {
        in_turn(&self.looks, call).await.map(Response::new)
    }

    async fn carry_out<T>(&self, call: impl Future<Output = Result<T>>) -> Result<Response<T>> {
        in_turn(&self.acts, call).await.map(Response::new)
    }
}

/// Carries out a call when it is its turn.
async fn in_turn<T>(turns: &Semaphore, call: impl Future<Output = Result<T>>) -> Result<T> {
    let _turn = turns
        .acquire()
        .await
        .map_err(|_| Status::unavailable("the queue is stopping"))?;
    call.await
}

#[async_trait]
impl Service for AdminAdapter {
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>> {
        self.look(self.queue.list(request.into_inner())).await
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<ShowResponse>> {
        let request = request.into_inner();
        self.look(self.queue.show(request.queue_id)).await
    }

    async fn act(&self, request: Request<ActRequest>) -> Result<Response<ActResponse>> {
        self.carry_out(self.queue.act(request.into_inner())).await
    }

    async fn acts(&self, request: Request<ActsRequest>) -> Result<Response<ActsResponse>> {
        self.look(self.queue.acts(request.into_inner())).await
    }

    async fn undo(&self, request: Request<UndoRequest>) -> Result<Response<ActRecord>> {
        self.carry_out(self.queue.undo(request.into_inner())).await
    }

    async fn suspend(&self, request: Request<SuspendRequest>) -> Result<Response<SuspendResponse>> {
        self.carry_out(self.queue.suspend(request.into_inner()))
            .await
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>> {
        self.carry_out(self.queue.resume(request.into_inner()))
            .await
    }

    async fn suspensions(
        &self,
        _request: Request<SuspensionsRequest>,
    ) -> Result<Response<SuspensionsResponse>> {
        self.look(self.queue.suspensions()).await
    }

    async fn find(&self, request: Request<FindRequest>) -> Result<Response<FindResponse>> {
        self.look(self.queue.find(request.into_inner())).await
    }

    async fn journey(&self, request: Request<JourneyRequest>) -> Result<Response<JourneyResponse>> {
        let request = request.into_inner();
        self.look(self.queue.journey(request.query)).await
    }

    type FollowJourneyStream = BoxStream<'static, Result<JourneyEvent>>;

    async fn follow_journey(
        &self,
        request: Request<JourneyRequest>,
    ) -> Result<Response<Self::FollowJourneyStream>> {
        let request = request.into_inner();
        let followers = self.followers.clone();
        let place = followers.try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{FOLLOWERS} journeys are followed already"))
        })?;
        let events = in_turn(&self.looks, self.queue.follow_journey(request.query)).await?;
        let events = events.inspect(move |_| {
            // Its place is free when the stream is dropped.
            let _place = &place;
        });
        Ok(Response::new(events.boxed()))
    }

    async fn stats(&self, _request: Request<StatsRequest>) -> Result<Response<StatsResponse>> {
        self.carry_out(self.queue.stats()).await
    }
}

impl QueueClient {
    fn admin(&self) -> Stub<Channel> {
        Stub::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

#[async_trait]
impl QueueAdmin for QueueClient {
    async fn list(&self, request: ListRequest) -> Result<ListResponse> {
        let call = || async {
            let request = self.link.request(request.clone(), deadline::ACT);
            self.admin().list(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }

    async fn show(&self, queue_id: String) -> Result<ShowResponse> {
        let call = || async {
            let queue_id = queue_id.clone();
            let request = self.link.request(ShowRequest { queue_id }, deadline::QUICK);
            self.admin().show(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }

    async fn act(&self, request: ActRequest) -> Result<ActResponse> {
        // Not repeated by itself: the operator shall know whether it was done once or twice.
        self.link.ready().await?;
        let request = self.link.request(request, deadline::ACT);
        self.admin().act(request).await.map(Response::into_inner)
    }

    async fn acts(&self, request: ActsRequest) -> Result<ActsResponse> {
        let call = || async {
            let request = self.link.request(request, deadline::QUICK);
            self.admin().acts(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }

    async fn undo(&self, request: UndoRequest) -> Result<ActRecord> {
        // Not repeated by itself, like an act.
        self.link.ready().await?;
        let request = self.link.request(request, deadline::ACT);
        self.admin().undo(request).await.map(Response::into_inner)
    }

    async fn suspend(&self, request: SuspendRequest) -> Result<SuspendResponse> {
        // Not repeated by itself: there would be two.
        self.link.ready().await?;
        let request = self.link.request(request, deadline::ACT);
        self.admin()
            .suspend(request)
            .await
            .map(Response::into_inner)
    }

    async fn resume(&self, request: ResumeRequest) -> Result<ResumeResponse> {
        let call = || async {
            let request = self.link.request(request.clone(), deadline::ACT);
            self.admin().resume(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }

    async fn suspensions(&self) -> Result<SuspensionsResponse> {
        let call = || async {
            let request = self.link.request(SuspensionsRequest {}, deadline::QUICK);
            self.admin().suspensions(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }

    async fn find(&self, request: FindRequest) -> Result<FindResponse> {
        let call = || async {
            let request = self.link.request(request.clone(), deadline::QUICK);
            self.admin().find(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }

    async fn journey(&self, query: String) -> Result<JourneyResponse> {
        let call = || async {
            let query = query.clone();
            let request = self.link.request(JourneyRequest { query }, deadline::QUICK);
            self.admin().journey(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }

    async fn follow_journey(
        &self,
        query: String,
    ) -> Result<BoxStream<'static, Result<JourneyEvent>>> {
        let call = || async {
            let query = query.clone();
            let request = self.link.request(JourneyRequest { query }, deadline::QUICK);
            self.admin().follow_journey(request).await
        };
        let events = self.link.patiently(call).await?.into_inner();
        Ok(events
            .map(|event| event.map_err(|status| Status::new(status.code(), status.message())))
            .boxed())
    }

    async fn stats(&self) -> Result<StatsResponse> {
        let call = || async {
            let request = self.link.request(StatsRequest {}, deadline::QUICK);
            self.admin().stats(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }
}
