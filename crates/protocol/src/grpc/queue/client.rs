//! The queue, as its callers see it over gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::transport::Channel;

use super::batch::{Batcher, Carrier};
use crate::api::{BodyStream, Queue, Result};
use crate::grpc::link::Link;
use crate::grpc::{MAX_MESSAGE, body, deadline, metrics};
use crate::queue_v1::queue_client::QueueClient as Stub;
use crate::queue_v1::{
    BodyChunk, EnqueueRequest, EnqueueResult, GetBodyRequest, NewMessage, PutBodyResponse,
    QueueFrame, WorkerFrame,
};

/// A client of the queue over gRPC. Cheap to clone; clones share the connection and the batches.
#[derive(Clone)]
pub struct QueueClient {
    pub(in crate::grpc) link: Link,
    batcher: Arc<Batcher<Wire>>,
}

impl QueueClient {
    pub(in crate::grpc) fn new(link: Link) -> Self {
        Self {
            batcher: Batcher::new(Wire(link.clone())),
            link,
        }
    }

    fn stub(&self) -> Stub<Channel> {
        stub(&self.link)
    }
}

fn stub(link: &Link) -> Stub<Channel> {
    Stub::new(link.channel())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// Carries batches over the wire.
struct Wire(Link);

#[async_trait]
impl Carrier for Wire {
    async fn carry(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>> {
        metrics::batch(messages.len());
        let request = EnqueueRequest { messages };
        // To clone a request copies no content. It may arrive twice: ids make it one.
        let response = self
            .0
            .patiently(|| async {
                let request = self.0.request(request.clone(), deadline::DURABLE);
                stub(&self.0).enqueue(request).await
            })
            .await?;
        Ok(response.into_inner().results)
    }
}

#[async_trait]
impl Queue for QueueClient {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>> {
        self.batcher.enqueue(messages).await
    }

    async fn put_body(&self, content: BodyStream) -> Result<PutBodyResponse> {
        self.link.ready().await?;
        let (failed, failure) = oneshot::channel();
        let chunks = body::sent(content, failed).map(|data| BodyChunk { data });
        let request = self.link.request(chunks, deadline::BODY);
        let mut stub = self.stub();
        let response = body::call(stub.put_body(request), failure).await?;
        Ok(response.into_inner())
    }

    async fn get_body(&self, name: String) -> Result<BodyStream> {
        let response = self
            .link
            .patiently(|| async {
                let request = GetBodyRequest { name: name.clone() };
                let request = self.link.request(request, deadline::QUICK);
                self.stub().get_body(request).await
            })
            .await?;
        let content = |chunk: BodyChunk| Ok(chunk.data);
        Ok(body::received(
            response.into_inner(),
            deadline::PIECE_OF_A_STORE,
            content,
        ))
    }

    async fn work(
        &self,
        from_worker: BoxStream<'static, WorkerFrame>,
    ) -> Result<BoxStream<'static, Result<QueueFrame>>> {
        self.link.ready().await?;
        // The deadline is for the answer's beginning; the conversation itself has none.
        let request = self.link.request(opaque(from_worker), deadline::QUICK);
        let frames = self.stub().work(request).await?.into_inner();
        Ok(frames.map_err(without_source).boxed())
    }
}

/// Hides the type of the stream, of which the compiler cannot see that it is `Send` for every lifetime
/// (rust-lang/rust#102211).
fn opaque(
    frames: BoxStream<'static, WorkerFrame>,
) -> impl Stream<Item = WorkerFrame> + Send + 'static {
    frames
}

/// The status as it may be shown: what the transport thinks of it stays here.
fn without_source(status: Status) -> Status {
    Status::new(status.code(), status.message())
}
