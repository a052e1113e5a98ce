//! Final delivery, over gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::link::Link;
use super::{MAX_MESSAGE, body, deadline, trace};
use crate::api::{BodyStream, Mailbox, Result};
use crate::mailbox_v1::mailbox_client::MailboxClient as Stub;
use crate::mailbox_v1::mailbox_server::Mailbox as Service;
use crate::mailbox_v1::{
    DeliverChunk, DeliverHeader, DeliverResponse, DeliverResult, deliver_chunk,
};

/// Serves mailboxes over gRPC.
pub(super) struct MailboxAdapter(pub(super) Arc<dyn Mailbox>);

#[async_trait]
impl Service for MailboxAdapter {
    async fn deliver(
        &self,
        request: Request<Streaming<DeliverChunk>>,
    ) -> Result<Response<DeliverResponse>> {
        let (metadata, _, mut chunks) = request.into_parts();
        let first = body::next(&mut chunks, deadline::PIECE_OF_A_STORE)
            .await?
            .and_then(|chunk| chunk.part);
        let Some(deliver_chunk::Part::Header(header)) = first else {
            return Err(Status::invalid_argument("the first part is no header"));
        };
        let content = body::received(chunks, deadline::PIECE_OF_A_STORE, |chunk| {
            match chunk.part {
                Some(deliver_chunk::Part::Data(data)) => Ok(data),
                Some(deliver_chunk::Part::Header(_)) | None => Err(Status::invalid_argument(
                    "a part behind the header is no content",
                )),
            }
        });
        let handler = self.0.deliver(header, content);
        let results = trace::below_caller(
            &metadata,
            "postrider.mailbox.v1.Mailbox",
            "Deliver",
            handler,
        )
        .await?;
        Ok(Response::new(DeliverResponse { results }))
    }
}

/// A client of the mailboxes over gRPC. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct MailboxClient {
    pub(super) link: Link,
}

impl MailboxClient {
    pub(super) fn new(link: Link) -> Self {
        Self { link }
    }
}

#[async_trait]
impl Mailbox for MailboxClient {
    async fn deliver(
        &self,
        header: DeliverHeader,
        content: BodyStream,
    ) -> Result<Vec<DeliverResult>> {
        self.link.ready().await?;
        let recipients = header.recipients.len();
        let (failed, failure) = oneshot::channel();
        let parts = stream::iter([deliver_chunk::Part::Header(header)])
            .chain(body::sent(content, failed).map(deliver_chunk::Part::Data))
            .map(|part| DeliverChunk { part: Some(part) });
        let request = self.link.request(parts, deadline::BODY);
        let mut stub: Stub<Channel> =
            Stub::new(self.link.channel()).max_encoding_message_size(MAX_MESSAGE);
        let response = body::call(stub.deliver(request), failure)
            .await?
            .into_inner();
        if response.results.len() != recipients {
            return Err(Status::internal(
                "the mailbox answered for another number of recipients",
            ));
        }
        Ok(response.results)
    }
}
