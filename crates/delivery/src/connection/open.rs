//! Opening a connection: TCP, greeting, EHLO, TLS, AUTH.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use postrider_protocol::net::Dialer;
use postrider_protocol::queue_v1::DialogueLine;
use postrider_smtp::client::{
    ClientConfig, Event, Failure, FailureKind, Phase, Session, TlsUse, Transport,
};
use postrider_smtp::credentials::Credentials;
use postrider_telemetry::trace::MessageSpan;
use postrider_tls::client::TlsClient;
use tokio::time::timeout;

use super::{Connection, Stream};
use crate::config::{Timeouts, TlsPolicy};
use crate::cutoff::Cutoff;
use crate::metrics;
use crate::outcome::Verdict;
use crate::verdict;

/// A server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} [{}]:{}",
            self.host,
            self.address.ip(),
            self.address.port()
        )
    }
}

/// What the connections of a hop have in common.
pub(crate) struct Opener<'a> {
    pub(crate) client_name: &'a str,
    pub(crate) sources: &'a [IpAddr],
    /// What makes connections, if not the system.
    pub(crate) dialer: Option<&'a dyn Dialer>,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) tls: TlsPolicy,
    pub(crate) tls_client: &'a TlsClient,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) cutoff: &'a Cutoff,
}

/// Why a connection never became usable.
#[derive(Debug)]
pub(crate) struct OpenError {
    pub(crate) verdict: Verdict,
    /// Nobody was reached at all.
    pub(crate) unreachable: bool,
}

/// How opening ended that may go differently without TLS.
enum Fault {
    Tls(Verdict),
    Other(OpenError),
}

impl Opener<'_> {
    /// Opens a connection that is ready for a transaction. The dialogue of what failed, and
    /// notes of what went before, are added to `dialogue`.
    pub(crate) async fn open(
        &self,
        target: &Target,
        span: &MessageSpan,
        dialogue: &mut Vec<DialogueLine>,
    ) -> Result<Box<Connection>, OpenError> {
        let tls = match self.tls {
            TlsPolicy::Opportunistic => TlsUse::IfOffered,
            TlsPolicy::Required => TlsUse::Required,
            TlsPolicy::None => TlsUse::Never,
        };
        match self.try_open(target, tls, span, dialogue).await {
            Ok(connection) => Ok(connection),
            // A password is not worth less because a handshake failed.
            Err(Fault::Tls(verdict))
                if self.tls == TlsPolicy::Opportunistic && self.credentials.is_none() =>
            {
                metrics::handles().fallbacks.increment(1);
                tracing::debug!(%target, reason = %verdict.text, "once more without TLS");
                self.try_open(target, TlsUse::Never, span, dialogue)
                    .await
                    .map_err(Fault::into_error)
            }
            Err(fault) => Err(fault.into_error()),
        }
    }

    async fn try_open(
        &self,
        target: &Target,
        tls: TlsUse,
        span: &MessageSpan,
        dialogue: &mut Vec<DialogueLine>,
    ) -> Result<Box<Connection>, Fault> {
        let stream = self.connect(target, span).await.map_err(|verdict| {
            metrics::connection_failed("connect");
            Fault::Other(OpenError {
                verdict,
                unreachable: true,
            })
        })?;
        let mut config = ClientConfig::new(self.client_name);
        config.tls = tls;
        config.credentials = self.credentials.cloned();
        let session = Session::new(Arc::new(config), Transport::Plain);
        let mut connection = Box::new(Connection::new(
            stream,
            session,
            target,
            self.timeouts.clone(),
            self.cutoff.clone(),
        ));
        connection.note(&format!("connected to {target}"));
        match self.greet(&mut connection, span).await {
            Ok(()) => {
                metrics::connection_opened(connection.tls);
                Ok(connection)
            }
            Err(fault) => {
                metrics::connection_failed(match fault {
                    Fault::Tls(_) => "tls",
                    Fault::Other(_) => "hello",
                });
                connection.take_dialogue(dialogue);
                Err(fault)
            }
        }
    }

    async fn connect(&self, target: &Target, span: &MessageSpan) -> Result<Stream, Verdict> {
        let mut span = span.child("delivery.connect");
        span.set("server.address", &target.host)
            .set("network.peer.address", target.address.ip())
            .set("network.peer.port", target.address.port());
        let connect = async {
            match self.dialer {
                Some(dialer) => dialer.dial(target.address).await.map(Stream::Other),
                None => Stream::connect(target.address, self.sources).await,
            }
        };
        let why = match timeout(self.timeouts.connect.0, connect).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                span.error("connect");
                error.to_string()
            }
            Err(_) => {
                span.error("timeout");
                "timed out".to_owned()
            }
        };
        Err(Verdict::deferred(
            "4.4.1",
            format!("Connecting to {target} failed: {why}"),
        ))
    }

    /// Everything up to the first transaction.
    async fn greet(&self, connection: &mut Connection, span: &MessageSpan) -> Result<(), Fault> {
        loop {
            match connection.event().await {
                Event::Ready => return Ok(()),
                Event::StartTls => self.start_tls(connection, span).await?,
                Event::Failed(failure) => {
                    // QUIT, if the session has said it. Nothing depends on it.
                    let wait = self.timeouts.quit.0;
                    let _sent = connection.flush(wait).await;
                    return Err(fault(connection, &failure));
                }
                Event::Closed => {
                    return Err(Fault::Other(OpenError {
                        verdict: Verdict::deferred("4.4.2", "The connection was closed"),
                        unreachable: false,
                    }));
                }
                Event::NeedMore | Event::SendContent | Event::Finished(_) => {
                    connection.session.connection_lost("out of step");
                }
            }
        }
    }

    async fn start_tls(
        &self,
        connection: &mut Connection,
        span: &MessageSpan,
    ) -> Result<(), Fault> {
        let mut span = span.child("delivery.tls");
        // What came in plain text behind the 220 was not said by whom we are about to
        // speak to (RFC 3207 section 5).
        connection.input.clear();
        connection.output.bytes.clear();
        let verify = self.tls == TlsPolicy::Required;
        let config = self.tls_client.config(verify);
        let ip = connection.address.ip();
        let handshake = connection.stream.start_tls(config, &connection.host, ip);
        let why = match timeout(self.timeouts.tls.0, handshake).await {
            Ok(Ok(())) => {
                connection.tls = connection.stream.tls_version();
                span.set("tls.protocol.version", connection.tls)
                    .set("postrider.tls.verified", verify);
                let verified = if verify { ", certificate verified" } else { "" };
                connection.note(&format!("{} established{verified}", connection.tls));
                connection.session.tls_established(&mut connection.output);
                connection.stamp();
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timed out".to_owned(),
        };
        span.error("handshake");
        connection.note(&format!("TLS handshake failed: {why}"));
        Err(Fault::Tls(Verdict::deferred(
            "4.7.5",
            format!("The TLS handshake with {} failed: {why}", connection.host),
        )))
    }
}

fn fault(connection: &Connection, failure: &Failure) -> Fault {
    let mut verdict = verdict::of_failure(failure);
    let auth = failure.phase == Phase::Auth || failure.kind == FailureKind::NoAuth;
    if auth && !verdict.is_deferred() {
        // A wrong password here is the operator's to mend, and no reason to return mail.
        verdict = Verdict {
            text: format!(
                "The smarthost refused to authenticate us: {} {}",
                verdict.code, verdict.text
            ),
            ..Verdict::deferred("4.7.8", "")
        };
    }
    if matches!(failure.kind, FailureKind::NoTls) && !verdict.is_deferred() {
        verdict = Verdict::deferred(
            "4.7.4",
            format!(
                "{} offers no TLS, which this route requires",
                connection.host
            ),
        );
    }
    // A server that accepts connections and never greets is as good as none.
    let silent = failure.phase == Phase::Greeting && failure.kind != FailureKind::Replied;
    Fault::Other(OpenError {
        verdict,
        unreachable: silent,
    })
}

impl Fault {
    fn into_error(self) -> OpenError {
        match self {
            Self::Tls(verdict) => OpenError {
                verdict,
                unreachable: false,
            },
            Self::Other(error) => error,
        }
    }
}
