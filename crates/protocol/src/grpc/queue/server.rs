//! A queue, served over gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Queue;
use crate::grpc::{body, deadline, trace};
use crate::queue_v1::queue_server::Queue as Service;
use crate::queue_v1::{
    BodyChunk, EnqueueRequest, EnqueueResponse, GetBodyRequest, PutBodyResponse, QueueFrame,
    WorkerFrame,
};

const SERVICE: &str = "postrider.queue.v1.Queue";

/// Serves a queue over gRPC.
pub(in crate::grpc) struct QueueAdapter(pub(in crate::grpc) Arc<dyn Queue>);

#[async_trait]
impl Service for QueueAdapter {
    async fn enqueue(
        &self,
        request: Request<EnqueueRequest>,
    ) -> Result<Response<EnqueueResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let handler = self.0.enqueue(request.messages);
        let results = trace::below_caller(&metadata, SERVICE, "Enqueue", handler).await?;
        Ok(Response::new(EnqueueResponse { results }))
    }

    async fn put_body(
        &self,
        request: Request<Streaming<BodyChunk>>,
    ) -> Result<Response<PutBodyResponse>, Status> {
        let (metadata, _, chunks) = request.into_parts();
        let handler = self.0.put_body(body::received(
            chunks,
            deadline::PIECE_OF_A_CLIENT,
            |chunk| Ok(chunk.data),
        ));
        let response = trace::below_caller(&metadata, SERVICE, "PutBody", handler).await?;
        Ok(Response::new(response))
    }

    type GetBodyStream = BoxStream<'static, Result<BodyChunk, Status>>;

    async fn get_body(
        &self,
        request: Request<GetBodyRequest>,
    ) -> Result<Response<Self::GetBodyStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let handler = self.0.get_body(request.name);
        let content = trace::below_caller(&metadata, SERVICE, "GetBody", handler).await?;
        let chunks = content.map(|piece| piece.map(|data| BodyChunk { data }));
        Ok(Response::new(chunks.boxed()))
    }

    type WorkStream = BoxStream<'static, Result<QueueFrame, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<WorkerFrame>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        // A conversation that breaks has ended: the leases lapse either way.
        let frames = request
            .into_inner()
            .take_while(|frame| std::future::ready(frame.is_ok()))
            .filter_map(|frame| std::future::ready(frame.ok()));
        Ok(Response::new(self.0.work(frames.boxed()).await?))
    }
}
