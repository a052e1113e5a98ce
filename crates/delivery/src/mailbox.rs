//! The transport into mailboxes of this system: one call to the mailbox service an attempt.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use postrider_protocol::api::{BodyStream, Mailbox, Queue};
use postrider_protocol::mailbox_v1::{DeliverHeader, DeliverResult};
use postrider_protocol::queue_v1::{
    Body, DialogueLine, Envelope, LeasedDelivery, RecipientOutcome, body, dialogue_line::From,
};
use postrider_protocol::{Code, Destination, Status};
use postrider_telemetry::trace::MessageSpan;

use crate::cutoff::Cutoff;
use crate::dsn::Reach;
use crate::live::Live;
use crate::metrics;
use crate::outcome::Verdict;
use crate::transport::{Report, Slot, Transport};

/// Hands mail to the mailbox service.
pub(crate) struct MailboxTransport {
    pub(crate) mailbox: Arc<dyn Mailbox>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) live: Live,
}

impl Transport for MailboxTransport {
    fn slot(&self, _destination: &Destination, cutoff: &Cutoff) -> Box<dyn Slot> {
        Box::new(MailboxSlot {
            cutoff: cutoff.clone(),
            mailbox: self.mailbox.clone(),
            queue: self.queue.clone(),
            live: self.live.clone(),
        })
    }
}

/// One call at a time. There is nothing to open, and so always something to use again.
struct MailboxSlot {
    mailbox: Arc<dyn Mailbox>,
    queue: Arc<dyn Queue>,
    live: Live,
    cutoff: Cutoff,
}

#[async_trait]
impl Slot for MailboxSlot {
    async fn attempt(
        &mut self,
        delivery: &LeasedDelivery,
        envelope: &Envelope,
        span: &mut MessageSpan,
    ) -> Report {
        let begun = Instant::now();
        let deadline = self.live.load().config.timeouts.mailbox.0;
        let call = self.deliver(delivery, envelope, span);
        let call = self.cutoff.or(tokio::time::timeout(deadline, call)).await;
        let verdict = match call {
            Some(Ok(Ok(results))) => return report(envelope, &results, delivery, begun),
            Some(Ok(Err(verdict))) => verdict,
            // If it is on disk after all, the next attempt's delivery id tells the service.
            None => Verdict::deferred("4.3.2", "The delivery service was stopped"),
            Some(Err(_)) => {
                Verdict::deferred("4.4.2", "The mailbox service did not answer in time")
            }
        };
        Report::of_all(envelope, &verdict)
    }

    fn is_warm(&self) -> bool {
        true
    }

    async fn lost(&mut self) {
        std::future::pending().await
    }

    async fn close(&mut self) {}

    fn abandon(&mut self) {}
}

impl MailboxSlot {
    async fn deliver(
        &self,
        delivery: &LeasedDelivery,
        envelope: &Envelope,
        span: &MessageSpan,
    ) -> Result<Vec<DeliverResult>, Verdict> {
        let body = content(&self.queue, delivery.body.as_ref())
            .await
            .map_err(|error| missing(delivery, &error))?;
        let (body, broken) = watched(body);
        let header = DeliverHeader {
            queue_id: delivery.queue_id.clone(),
            delivery_id: delivery.delivery_id.clone(),
            reverse_path: envelope.reverse_path.clone(),
            recipients: envelope
                .recipients
                .iter()
                .map(|recipient| recipient.address.clone())
                .collect(),
            traceparent: span.context().to_string(),
            size: delivery.body.as_ref().map_or(0, |body| body.size),
        };
        self.mailbox
            .deliver(header, body)
            .await
            .map_err(|error| match broken.get() {
                Some(why) => missing(delivery, why),
                // The service counts what it got.
                None if error.code() == Code::DataLoss => missing(delivery, &error),
                None => refusal(&error),
            })
    }
}

/// The content as a stream.
pub(crate) async fn content(
    queue: &Arc<dyn Queue>,
    body: Option<&Body>,
) -> Result<BodyStream, Status> {
    match body.and_then(|body| body.content.as_ref()) {
        Some(body::Content::Inline(content)) => Ok(whole(content.clone())),
        Some(body::Content::Stored(name)) => queue.get_body(name.clone()).await,
        None => Err(Status::not_found("the delivery came without a body")),
    }
}

fn whole(content: Bytes) -> BodyStream {
    stream::once(std::future::ready(Ok(content))).boxed()
}

/// The same stream, and what broke it, once that has happened: however the service words it, it is
/// the content that is missing.
fn watched(body: BodyStream) -> (BodyStream, Arc<OnceLock<Status>>) {
    let broken = Arc::new(OnceLock::new());
    let seen = broken.clone();
    let body = body.inspect(move |piece| {
        if let Err(error) = piece {
            seen.get_or_init(|| error.clone());
        }
    });
    (body.boxed(), broken)
}

/// A message without its content is never lost silently: it is kept, and an alarm is raised.
pub(crate) fn missing(delivery: &LeasedDelivery, error: &Status) -> Verdict {
    metrics::handles().bodies_missing.increment(1);
    tracing::error!(
        queue_id = %delivery.queue_id,
        delivery = %delivery.delivery_id,
        %error,
        "the content of a queued message cannot be read"
    );
    Verdict::deferred(
        "4.3.0",
        "The message's content cannot be read at the moment",
    )
}

/// A call that failed as a whole.
fn refusal(error: &Status) -> Verdict {
    let text = format!("The mailbox service: {}", error.message());
    match error.code() {
        Code::InvalidArgument => Verdict::failed(554, "5.3.0", text),
        _ => Verdict::deferred("4.3.0", text),
    }
}

fn report(
    envelope: &Envelope,
    results: &[DeliverResult],
    delivery: &LeasedDelivery,
    begun: Instant,
) -> Report {
    let at_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut dialogue = Vec::with_capacity(1 + envelope.recipients.len());
    let mut say = |from: From, text: String, at_us| {
        dialogue.push(DialogueLine {
            from: from.into(),
            text,
            at_us,
        });
    };
    let size = delivery.body.as_ref().map_or(0, |body| body.size);
    say(
        From::Client,
        format!("Deliver to mailboxes [{size} octets of content]"),
        0,
    );
    let outcomes: Vec<RecipientOutcome> = envelope
        .recipients
        .iter()
        .enumerate()
        .map(|(number, recipient)| {
            let address = &recipient.address;
            let result = results
                .get(number)
                .filter(|result| result.address == *address)
                .or_else(|| results.iter().find(|result| result.address == *address));
            let outcome = match result {
                Some(result) => {
                    let code = u16::try_from(result.reply_code).unwrap_or(451);
                    let status = (!result.enhanced_status.is_empty())
                        .then(|| result.enhanced_status.clone());
                    let mut verdict = Verdict::of_reply(code, status, result.text.clone());
                    verdict.from_remote = false;
                    verdict.on(address)
                }
                None => Verdict::deferred("4.3.0", "The mailbox service did not say").on(address),
            };
            say(
                From::Server,
                format!("{} <{address}>", crate::outcome::line(&outcome)),
                at_us,
            );
            outcome
        })
        .collect();
    Report {
        outcomes,
        remote_host: String::new(),
        remote_address: String::new(),
        tls: String::new(),
        dialogue,
        reach: Reach::Final,
    }
}
