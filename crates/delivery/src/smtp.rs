//! The transport by SMTP: a slot finds servers, keeps a connection, and sends.

mod attempt;
mod envelope;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_protocol::api::Queue;
use postrider_protocol::net::AnyDialer;
use postrider_protocol::queue_v1::{Envelope, LeasedDelivery, body};
use postrider_protocol::{Destination, Status};
use postrider_telemetry::trace::MessageSpan;
use postrider_tls::client::TlsClient;
use tokio::time::timeout;

use crate::config::TlsPolicy;
use crate::connection::{Connection, Content, Opener};
use crate::cutoff::Cutoff;
use crate::dsn::Reach;
use crate::live::{Active, Live};
use crate::metrics;
use crate::outcome::Verdict;
use crate::route::Hop;
use crate::targets::Targets;
use crate::transport::{Report, Slot, Transport};
use crate::unreachable::Unreachable;
use attempt::Attempt;

/// Servers that took the connection, in one attempt: if two of them lose it, the rest waits.
const MOST_SESSIONS: u32 = 2;

/// For the queue to find a stored body.
const BODY: Duration = Duration::from_secs(60);

/// What all SMTP slots share.
pub(crate) struct SmtpTransport {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) live: Live,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) tls: TlsClient,
    /// What makes connections, if not the system.
    pub(crate) dialer: Option<AnyDialer>,
    pub(crate) unreachable: Unreachable,
}

impl Transport for SmtpTransport {
    fn slot(&self, destination: &Destination, cutoff: &Cutoff) -> Box<dyn Slot> {
        Box::new(SmtpSlot {
            shared: self.shared.clone(),
            cutoff: cutoff.clone(),
            domain: destination.domain().to_owned(),
            connection: None,
        })
    }
}

/// At most one connection.
struct SmtpSlot {
    shared: Arc<Shared>,
    domain: String,
    cutoff: Cutoff,
    connection: Option<(Hop, Box<Connection>)>,
}

#[async_trait]
impl Slot for SmtpSlot {
    async fn attempt(
        &mut self,
        delivery: &LeasedDelivery,
        envelope: &Envelope,
        span: &mut MessageSpan,
    ) -> Report {
        let active = self.shared.live.load_full();
        let hop = active.routes.hop(&self.domain, &envelope.reverse_path);
        if hop == Hop::Discard {
            let verdict = Verdict::delivered("Discarded, as a route says");
            return Report::of_all(envelope, &verdict);
        }
        let mut attempt = Attempt::new(delivery, envelope);
        self.send(&active, &hop, &mut attempt, span).await;
        attempt.report()
    }

    fn is_warm(&self) -> bool {
        self.connection.is_some()
    }

    async fn lost(&mut self) {
        if let Some((_, connection)) = &mut self.connection {
            connection.lost().await;
        }
    }

    async fn close(&mut self) {
        if let Some((_, connection)) = self.connection.take() {
            connection.quit().await;
        }
    }

    fn abandon(&mut self) {
        self.connection = None;
    }
}

impl SmtpSlot {
    /// Sends over the connection that is open, then over others, until every recipient has an
    /// outcome.
    async fn send(
        &mut self,
        active: &Active,
        hop: &Hop,
        attempt: &mut Attempt<'_>,
        span: &MessageSpan,
    ) {
        if let Some(connection) = self.reusable(active, hop).await {
            metrics::handles().reused.increment(1);
            let number = connection.transactions + 1;
            connection.note(&format!("connection reused: message {number}"));
            self.transact(active, attempt, span, true).await;
        }
        if attempt.is_over() {
            return;
        }
        let (shared, cutoff) = (self.shared.clone(), self.cutoff.clone());
        let targets = Targets::of(hop, &active.resolver, &active.config, &shared.unreachable);
        let Some(mut targets) = cutoff.or(targets).await else {
            return attempt.settle_rest(broken_off());
        };
        let opener = opener(active, hop, &shared, &cutoff);
        let mut sessions = 0;
        while !attempt.is_over()
            && sessions < MOST_SESSIONS
            && let Some(Some(target)) = cutoff.or(targets.next()).await
        {
            // A server that would not take it. A slot is one connection at a time.
            if cutoff.or(self.close()).await.is_none() {
                break;
            }
            let open = opener.open(&target, span, &mut attempt.dialogue);
            let Some(opened) = cutoff.or(open).await else {
                break;
            };
            match opened {
                Ok(connection) => {
                    sessions += 1;
                    self.connection = Some((hop.clone(), connection));
                    self.transact(active, attempt, span, false).await;
                }
                Err(error) => {
                    attempt.note(&error.verdict.text);
                    if error.unreachable {
                        let time = active.config.unreachable.0;
                        let reason = error.verdict.text.clone();
                        shared.unreachable.note(target.address, reason, time);
                    }
                    attempt.met(&target);
                    targets.note(error.verdict);
                }
            }
        }
        if !attempt.is_over() {
            let problem = if cutoff.is_set() {
                broken_off()
            } else {
                targets.problem()
            };
            attempt.settle_rest(problem);
        }
    }

    /// The open connection, if it leads where this mail goes and is good for another message.
    async fn reusable(&mut self, active: &Active, hop: &Hop) -> Option<&mut Box<Connection>> {
        let (open_to, mut connection) = self.connection.take()?;
        let most = active.config.messages_per_connection;
        if open_to != *hop || (most > 0 && connection.transactions >= most) {
            connection.quit().await;
            return None;
        }
        if !connection.ready().await {
            return None;
        }
        let (_, connection) = self.connection.insert((open_to, connection));
        Some(connection)
    }

    /// Transactions over the open connection, until nobody is left or it is not usable any more.
    async fn transact(
        &mut self,
        active: &Active,
        attempt: &mut Attempt<'_>,
        span: &MessageSpan,
        reused: bool,
    ) {
        let Some((_, connection)) = &mut self.connection else {
            return;
        };
        let mut span = span.child("delivery.dialogue");
        span.set("server.address", &connection.host)
            .set("postrider.connection.reused", reused)
            .set(
                "postrider.connection.transaction",
                connection.transactions + 1,
            );
        let most = active.config.recipients_per_transaction as usize;
        let mut first = true;
        while connection.is_usable()
            && let Some((who, message)) = attempt.next_message(most)
        {
            if !first && !connection.ready().await {
                break;
            }
            // Asked for before anything is promised to the server.
            let content = content(&self.shared.queue, attempt.delivery);
            let Some(content) = self.cutoff.or(content).await else {
                break;
            };
            let mut content = match content {
                Ok(content) => content,
                Err(error) => {
                    attempt.fail_content(&error);
                    connection.take_dialogue(&mut attempt.dialogue);
                    break;
                }
            };
            let transaction = connection.transact(message, &mut content).await;
            attempt.reach = if connection.takes_dsn_duty() {
                Reach::PassedOn
            } else {
                Reach::Relayed
            };
            let done = attempt.take(&who, &transaction.outcomes, reused && first);
            if let Some(error) = transaction.body_error {
                attempt.fail_content(&error);
            }
            connection.take_dialogue(&mut attempt.dialogue);
            first = false;
            if !done {
                break;
            }
        }
        attempt.meet(connection);
        if !connection.is_usable() {
            span.error("connection lost");
            self.connection = None;
        }
    }
}

/// What is said of recipients that it did not come to any more.
fn broken_off() -> Verdict {
    Verdict::deferred("4.3.2", "The delivery service was stopped")
}

fn opener<'a>(
    active: &'a Active,
    hop: &'a Hop,
    shared: &'a Shared,
    cutoff: &'a Cutoff,
) -> Opener<'a> {
    let (tls, credentials) = match hop {
        Hop::Mx { tls, .. } => (*tls, None),
        Hop::Smarthost(smarthost) => (smarthost.tls, smarthost.credentials.as_ref()),
        Hop::Discard => (TlsPolicy::None, None),
    };
    Opener {
        client_name: &active.client_name,
        sources: &active.config.source_addresses,
        dialer: shared.dialer.as_deref(),
        timeouts: &active.config.timeouts,
        tls,
        tls_client: &shared.tls,
        credentials,
        cutoff,
    }
}

/// The content, anew for each transaction.
async fn content(queue: &Arc<dyn Queue>, delivery: &LeasedDelivery) -> Result<Content, Status> {
    match delivery
        .body
        .as_ref()
        .and_then(|body| body.content.as_ref())
    {
        Some(body::Content::Inline(content)) => Ok(Content::Inline(content.clone())),
        _ => {
            let stream = crate::mailbox::content(queue, delivery.body.as_ref());
            let stream = timeout(BODY, stream)
                .await
                .map_err(|_| Status::deadline_exceeded("no content in time"))??;
            Ok(Content::Stored(stream))
        }
    }
}
