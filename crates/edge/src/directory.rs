//! What the edge asks the directory: does this recipient exist, may this client in?
//!
//! Every call has a deadline, and whatever goes wrong means "not now", never "no".

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::api::Directory;
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, authenticate_response, lookup_response::Verdict,
};
use postrider_smtp::credentials::Credentials;
use tokio::time::timeout;
use tracing::warn;

use crate::policy::Existence;

/// Whether local recipients exist: an answer for each, in order, or none at all if the directory
/// cannot say.
pub(crate) async fn existence(
    directory: &Arc<dyn Directory>,
    addresses: &[String],
    deadline: Duration,
) -> Vec<Existence> {
    let lookup = directory.lookup(addresses.to_vec());
    match timeout(deadline, lookup).await {
        Ok(Ok(verdicts)) => verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Verdict::Exists => Existence::Exists,
                Verdict::NoSuchUser => Existence::NoSuchUser,
                Verdict::NotLocal => Existence::NotLocal,
                Verdict::MailboxFull => Existence::MailboxFull,
                Verdict::Temporary | Verdict::Unspecified => Existence::Unknown,
            })
            .collect(),
        Ok(Err(status)) => {
            warn!(code = ?status.code(), error = status.message(), "recipient lookup failed");
            Vec::new()
        }
        Err(_) => {
            warn!(?deadline, "recipient lookup took too long");
            Vec::new()
        }
    }
}

/// What the directory says of somebody's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// They are who they say; the account's own name.
    Granted(String),
    /// They are not.
    Denied,
    /// Nobody can say now.
    Unknown,
}

/// Checks credentials. The password is shown to nobody but the directory.
pub(crate) async fn authenticate(
    directory: &Arc<dyn Directory>,
    credentials: &Credentials,
    client: IpAddr,
    deadline: Duration,
) -> Access {
    // Acting as somebody else is an administrator's business, and nobody is one here.
    let other = !credentials
        .authorization
        .eq_ignore_ascii_case(&credentials.user);
    if !credentials.authorization.is_empty() && other {
        return Access::Denied;
    }
    let request = AuthenticateRequest {
        account: credentials.user.to_string(),
        password: credentials.password.to_string(),
        client_address: client.to_string(),
    };
    match timeout(deadline, directory.authenticate(request)).await {
        Ok(Ok(response)) => match response.verdict() {
            authenticate_response::Verdict::Granted => Access::Granted(response.account),
            authenticate_response::Verdict::Denied => Access::Denied,
            authenticate_response::Verdict::Temporary
            | authenticate_response::Verdict::Unspecified => Access::Unknown,
        },
        Ok(Err(status)) => {
            warn!(code = ?status.code(), error = status.message(), "cannot authenticate now");
            Access::Unknown
        }
        Err(_) => {
            warn!(?deadline, "authentication took too long");
            Access::Unknown
        }
    }
}
