//! The end of a message: the one place that leads to a 250.

use postrider_protocol::queue_v1::Origin;
use postrider_smtp::envelope::Envelope;
use postrider_smtp::outline::Outline;
use postrider_smtp::reply::Reply;
use postrider_smtp::server::Answer;
use postrider_smtp::status::EnhancedStatus;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::clerk::{Clerk, temporary_failure};
use crate::enqueue::{Enqueued, enqueue};
use crate::metrics::Outcome;
use crate::transaction::{Arrival, Parts, Transaction};

/// The content has arrived whole. Answers [`Answer::Stored`] only for what the queue has
/// accepted (RFC 5321 section 6.1).
///
/// Nothing here waits for the client, and the caller does not look at the client before it
/// is done: a client that leaves now changes nothing.
pub(crate) async fn end_of_message(
    clerk: &mut Clerk,
    envelope: &Envelope,
    outline: &mut Outline,
) -> Answer {
    if let Some(headers) = clerk
        .transaction
        .as_mut()
        .and_then(|transaction| transaction.content.as_mut())
        .and_then(|arrival| arrival.intake.end_of_headers())
    {
        clerk.judge(headers, outline);
    }
    let Some(mut transaction) = clerk.transaction.take() else {
        return temporary_failure();
    };
    let (outcome, answer) = match transaction.refusal.take() {
        Some(reply) => refused(reply),
        None => store(clerk, &mut transaction, envelope, outline).await,
    };
    if outcome != Outcome::Accepted {
        transaction.span.error(if outcome == Outcome::Deferred {
            "deferred"
        } else {
            "rejected"
        });
    }
    describe(clerk, &mut transaction);
    clerk
        .metrics()
        .transaction(outcome, transaction.began.elapsed());
    answer
}

fn refused(reply: Reply) -> (Outcome, Answer) {
    let outcome = if reply.is_transient() {
        Outcome::Deferred
    } else {
        Outcome::Rejected
    };
    (outcome, Answer::Refuse(reply))
}

async fn store(
    clerk: &Clerk,
    transaction: &mut Transaction,
    envelope: &Envelope,
    outline: &Outline,
) -> (Outcome, Answer) {
    let Some(Arrival {
        intake, message_id, ..
    }) = transaction.content.take()
    else {
        return (Outcome::Deferred, temporary_failure());
    };
    if transaction.routed.len() != envelope.recipients.len() {
        // Nobody may be left out: each was accepted by an answer of ours.
        error!(queue_id = %transaction.id, "the session's recipients are not those that were accepted");
        return (Outcome::Deferred, temporary_failure());
    }
    let began = Instant::now();
    let queue = &clerk.shared.queue;
    let wait = clerk.settings.config.timeouts.enqueue.0;
    let arrived = intake.arrived();
    let body = match intake.finish(queue, wait).await {
        Ok(body) => body,
        Err(status) => {
            warn!(
                queue_id = %transaction.id,
                code = ?status.code(),
                error = status.message(),
                "the body could not be stored"
            );
            return (Outcome::Deferred, temporary_failure());
        }
    };
    let parts = Parts {
        envelope,
        body: &body,
        message_id: &message_id,
        origin: &origin(clerk),
        outline,
        tenant: &tenant(clerk),
        instance: &clerk.shared.instance,
    };
    let enqueued = enqueue(queue, || transaction.message(&parts), wait).await;
    clerk.metrics().enqueued(began.elapsed());
    match enqueued {
        Enqueued::Accepted => {
            clerk.metrics().accepted(arrived, envelope.recipients.len());
            info!(
                queue_id = %transaction.id,
                role = %clerk.client.role,
                client = %clerk.client.address,
                account = clerk.account.as_deref(),
                from = %envelope.reverse_path,
                recipients = envelope.recipients.len(),
                size = arrived,
                message_id = %message_id,
                tls = clerk.tls,
                "accepted"
            );
            transaction.span.set("messaging.message.body.size", arrived);
            (
                Outcome::Accepted,
                Answer::Stored(transaction.id.to_string().into()),
            )
        }
        Enqueued::Unavailable => (Outcome::Deferred, temporary_failure()),
        Enqueued::Invalid => {
            let text = "This message cannot be stored here";
            let reply = Reply::new(554, EnhancedStatus::permanent(6, 0), text);
            (Outcome::Rejected, Answer::Refuse(reply))
        }
    }
}

/// Whose mail it is: the account's, as the config names tenants.
fn tenant(clerk: &Clerk) -> String {
    let account = clerk.account.as_deref().unwrap_or_default();
    clerk.settings.config.tenant.of(account)
}

fn origin(clerk: &Clerk) -> Origin {
    Origin {
        role: clerk.client.role.as_str().to_owned(),
        client_address: clerk.client.address.to_string(),
        client_name: clerk.hello.clone(),
        account: clerk.account.clone().unwrap_or_default(),
        tls: clerk.tls.unwrap_or_default().to_owned(),
    }
}

/// What the trace shows of a transaction.
fn describe(clerk: &Clerk, transaction: &mut Transaction) {
    if !transaction.span.is_recording() {
        return;
    }
    let id = transaction.id.to_string();
    let span = &mut transaction.span;
    span.set("postrider.queue_id", id)
        .set("postrider.smtp.role", clerk.client.role.as_str())
        .set("client.address", clerk.client.address);
    if let Some(version) = clerk.tls {
        span.set("tls.protocol.version", version.trim_start_matches("TLSv"));
    }
}
