//! What operators ask of the queue, over gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{MAX_MESSAGE, QueueClient, deadline};
use crate::api::{QueueAdmin, Result};
use crate::queue_v1::queue_admin_client::QueueAdminClient as Stub;
use crate::queue_v1::queue_admin_server::QueueAdmin as Service;
use crate::queue_v1::{
    ActRequest, ActResponse, JourneyEvent, JourneyRequest, JourneyResponse, ListRequest,
    ListResponse, ShowRequest, ShowResponse, StatsRequest, StatsResponse,
};

/// Serves the operators' side of a queue over gRPC.
pub(super) struct AdminAdapter(pub(super) Arc<dyn QueueAdmin>);

#[async_trait]
impl Service for AdminAdapter {
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>> {
        self.0.list(request.into_inner()).await.map(Response::new)
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<ShowResponse>> {
        let request = request.into_inner();
        self.0.show(request.queue_id).await.map(Response::new)
    }

    async fn act(&self, request: Request<ActRequest>) -> Result<Response<ActResponse>> {
        self.0.act(request.into_inner()).await.map(Response::new)
    }

    async fn journey(&self, request: Request<JourneyRequest>) -> Result<Response<JourneyResponse>> {
        let request = request.into_inner();
        self.0.journey(request.query).await.map(Response::new)
    }

    type FollowJourneyStream = BoxStream<'static, Result<JourneyEvent>>;

    async fn follow_journey(
        &self,
        request: Request<JourneyRequest>,
    ) -> Result<Response<Self::FollowJourneyStream>> {
        let request = request.into_inner();
        let events = self.0.follow_journey(request.query).await?;
        Ok(Response::new(events))
    }

    async fn stats(&self, _request: Request<StatsRequest>) -> Result<Response<StatsResponse>> {
        self.0.stats().await.map(Response::new)
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
