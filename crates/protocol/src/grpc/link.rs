//! A connection to another service: one HTTP/2 connection, made when it is needed and again
//! whenever it must.

use std::error::Error as _;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::config::ServicesConfig;
use super::error::SetupError;
use super::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW, deadline, metrics, trace};
use crate::net::AnyDialer;

/// A connection to another service. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Link {
    name: &'static str,
    channel: Channel,
}

impl Link {
    /// A link to `address`; `name` is the key of `[services]` that holds it.
    pub(super) fn new(
        name: &'static str,
        address: &str,
        config: &ServicesConfig,
    ) -> Result<Self, SetupError> {
        config.check_target(name, address)?;
        let mut endpoint = endpoint(name, address)?;
        if let Some(pem) = config.read_tls()? {
            endpoint = endpoint.tls_config(pem.client()).map_err(SetupError::Tls)?;
        }
        Ok(Self {
            name,
            channel: endpoint.connect_lazy(),
        })
    }

    /// A link to `address` over connections that `dialer` makes.
    pub(super) fn over(
        name: &'static str,
        address: SocketAddr,
        dialer: AnyDialer,
    ) -> Result<Self, SetupError> {
        let connect = tower::service_fn(move |_| {
            let dialer = dialer.clone();
            async move { dialer.dial(address).await.map(TokioIo::new) }
        });
        let endpoint = endpoint(name, &format!("http://{address}"))?;
        Ok(Self {
            name,
            channel: endpoint.connect_with_connector_lazy(connect),
        })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with a deadline and the caller's trace context.
    pub(super) fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        trace::inject(request.metadata_mut());
        request
    }

    /// Makes a call, again while the other side is not reached. Only for calls that may arrive
    /// twice.
    pub(super) async fn patiently<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let give_up = Instant::now() + deadline::RESTART;
        let mut wait = deadline::FIRST_RETRY;
        loop {
            match call().await {
                Err(status) if was_not_reached(&status) && Instant::now() + wait < give_up => {
                    metrics::retry(self.name);
                    tracing::debug!(service = self.name, error = %status, "not reached yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(deadline::LONGEST_RETRY);
                }
                Err(status) if was_not_reached(&status) => {
                    metrics::unreachable(self.name);
                    tracing::warn!(service = self.name, error = %status, "not reached");
                    return Err(Status::unavailable(format!(
                        "the service {} cannot be reached",
                        self.name
                    )));
                }
                result => return result,
            }
        }
    }

    /// Waits until the other side answers. For calls that cannot be repeated, because they carry
    /// a stream.
    pub(super) fn ready(&self) -> BoxFuture<'_, Result<(), Status>> {
        let check = || async {
            let mut request = Request::new(HealthCheckRequest::default());
            request.set_timeout(deadline::QUICK);
            match HealthClient::new(self.channel()).check(request).await {
                Err(status) if was_not_reached(&status) => Err(status),
                // Whatever it says of its health, it is there; the call itself will tell more.
                _ => Ok(()),
            }
        };
        Box::pin(self.patiently(check))
    }
}

fn endpoint(name: &'static str, address: &str) -> Result<Endpoint, SetupError> {
    postrider_telemetry::metric::describe(metrics::METRICS);
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| SetupError::Address {
        key: name.to_owned(),
        address: address.to_owned(),
        example: "http://127.0.0.1:8027",
    })?;
    Ok(endpoint
        .connect_timeout(deadline::CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(deadline::PROBE)
        .keep_alive_timeout(deadline::PROBE_ANSWER)
        .keep_alive_while_idle(true))
}

/// Whether the call failed on its way, and not at the other side.
fn was_not_reached(status: &Status) -> bool {
    if status.source().is_none() {
        return false;
    }
    // A connection that breaks under a call shows as UNAVAILABLE, UNKNOWN or CANCELLED, by where it
    // broke; each has a transport error as its source, which a status from the peer never has.
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
    )
}
