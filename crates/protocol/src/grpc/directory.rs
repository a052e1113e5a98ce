//! Who exists and who may come in, over gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{MailboxClient, deadline, trace};
use crate::api::{Directory, Result};
use crate::mailbox_v1::directory_client::DirectoryClient as Stub;
use crate::mailbox_v1::directory_server::Directory as Service;
use crate::mailbox_v1::{
    AuthenticateRequest, AuthenticateResponse, LookupRequest, LookupResponse, lookup_response,
};

const SERVICE: &str = "postrider.mailbox.v1.Directory";

/// Serves a directory over gRPC.
pub(super) struct DirectoryAdapter(pub(super) Arc<dyn Directory>);

#[async_trait]
impl Service for DirectoryAdapter {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>> {
        let (metadata, _, request) = request.into_parts();
        let handler = self.0.lookup(request.addresses);
        let verdicts = trace::below_caller(&metadata, SERVICE, "Lookup", handler).await?;
        let verdicts = verdicts.into_iter().map(i32::from).collect();
        Ok(Response::new(LookupResponse { verdicts }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>> {
        let (metadata, _, request) = request.into_parts();
        let handler = self.0.authenticate(request);
        let response = trace::below_caller(&metadata, SERVICE, "Authenticate", handler).await?;
        Ok(Response::new(response))
    }
}

impl MailboxClient {
    fn directory(&self) -> Stub<Channel> {
        Stub::new(self.link.channel())
    }
}

#[async_trait]
impl Directory for MailboxClient {
    async fn lookup(&self, addresses: Vec<String>) -> Result<Vec<lookup_response::Verdict>> {
        let asked = addresses.len();
        let request = LookupRequest { addresses };
        let call = || async {
            let request = self.link.request(request.clone(), deadline::QUICK);
            self.directory().lookup(request).await
        };
        let response = self.link.patiently(call).await?.into_inner();
        if response.verdicts.len() != asked {
            return Err(Status::internal(
                "the directory answered for another number of addresses",
            ));
        }
        // A verdict of a later release that this one does not know can only be "not now".
        Ok(response
            .verdicts()
            .map(|verdict| match verdict {
                lookup_response::Verdict::Unspecified => lookup_response::Verdict::Temporary,
                known => known,
            })
            .collect())
    }

    async fn authenticate(&self, request: AuthenticateRequest) -> Result<AuthenticateResponse> {
        // Hashing takes its time, and others may wait before us.
        let call = || async {
            let request = self.link.request(request.clone(), deadline::DURABLE);
            self.directory().authenticate(request).await
        };
        self.link.patiently(call).await.map(Response::into_inner)
    }
}
