//! Final delivery: a message and its recipients in, one reply a recipient out.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use postrider_protocol::api::{BodyStream, Mailbox, Result};
use postrider_protocol::mailbox_v1::{DeliverHeader, DeliverResult};
use postrider_protocol::{DeliveryId, Status};
use postrider_telemetry::trace::{MessageSpan, TraceContext};
use tracing::{info, warn};

use crate::accounts::AccountName;
use crate::directory::Resolved;
use crate::metrics::Outcome;
use crate::service::MailboxService;
use crate::store::{Draft, Stored};

/// Content that is gathered in memory before it goes to disk in one go.
const GATHER: usize = 256 * 1024;
/// Recipients of one delivery.
const MAX_RECIPIENTS: usize = 10_000;
/// Longest reverse-path (RFC 5321 section 4.5.3.1.3 asks for 256; SMTPUTF8 needs more).
const MAX_REVERSE_PATH: usize = 1_024;
/// Wait for the next piece of a message.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be told about a recipient, as SMTP would say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reply {
    code: u32,
    status: &'static str,
    text: &'static str,
    outcome: Outcome,
}

const DELIVERED: Reply = reply(250, "2.1.5", "Delivered", Outcome::Delivered);
const REPEATED: Reply = reply(250, "2.1.5", "Delivered before", Outcome::Repeated);
const NO_SUCH_USER: Reply = reply(550, "5.1.1", "No such user here", Outcome::Failed);
const NOT_LOCAL: Reply = reply(550, "5.1.2", "Not a domain of this server", Outcome::Failed);
const SYSTEM_FULL: Reply = reply(452, "4.3.1", "Mail system full", Outcome::Deferred);
const MAILBOX_FULL: Reply = reply(452, "4.2.2", "Mailbox full", Outcome::Deferred);
const TROUBLE: Reply = reply(
    451,
    "4.3.0",
    "Mailbox cannot be written now",
    Outcome::Deferred,
);

const fn reply(code: u32, status: &'static str, text: &'static str, outcome: Outcome) -> Reply {
    Reply {
        code,
        status,
        text,
        outcome,
    }
}

/// One place says what a failure of the store means to a sender.
fn reply_to(stored: &io::Result<Stored>) -> Reply {
    match stored.as_ref().map_err(io::Error::kind) {
        Ok(Stored::New) => DELIVERED,
        Ok(Stored::Already) => REPEATED,
        Err(io::ErrorKind::StorageFull) => SYSTEM_FULL,
        Err(io::ErrorKind::QuotaExceeded) => MAILBOX_FULL,
        Err(_) => TROUBLE,
    }
}

/// Which recipients go where.
struct Plan {
    /// Every account once, however many recipients stand for it.
    accounts: Vec<AccountName>,
    /// For each recipient: an account's index, or the reply that it gets at once.
    recipients: Vec<std::result::Result<usize, Reply>>,
}

#[async_trait]
impl Mailbox for MailboxService {
    async fn deliver(&self, header: DeliverHeader, body: BodyStream) -> Result<Vec<DeliverResult>> {
        let began = Instant::now();
        let delivery = check(&header)?;
        let parent = TraceContext::from_traceparent(&header.traceparent);
        let mut span = MessageSpan::start("mailbox.deliver", &parent);
        if span.is_recording() {
            span.set("postrider.queue_id", &header.queue_id);
            span.set("postrider.recipients", header.recipients.len());
        }
        let plan = self.plan(&header.recipients);
        let stored = if plan.accounts.is_empty() {
            Vec::new()
        } else {
            let stored = self.store(
                delivery,
                &header.reverse_path,
                header.size,
                &plan.accounts,
                body,
            );
            stored.await.inspect_err(|status| {
                span.error("body");
                warn!(queue_id = %header.queue_id, error = status.message(), "delivery broken off");
            })?
        };
        let results = self.report(&header, &plan, &stored);
        if results.iter().any(|result| result.reply_code >= 400) {
            span.error("recipients");
        }
        self.metrics.delivery_took(began.elapsed());
        Ok(results)
    }
}

/// What can be said about a delivery before anything is done.
fn check(header: &DeliverHeader) -> Result<DeliveryId> {
    let delivery: DeliveryId = header
        .delivery_id
        .parse()
        .map_err(|_| Status::invalid_argument("delivery_id is not a delivery's id"))?;
    if header.recipients.is_empty() || header.recipients.len() > MAX_RECIPIENTS {
        return Err(Status::invalid_argument(
            "between 1 and 10,000 recipients a delivery",
        ));
    }
    let path = &header.reverse_path;
    if path.len() > MAX_REVERSE_PATH || path.contains(|c: char| c.is_control()) {
        return Err(Status::invalid_argument("reverse_path is not an address"));
    }
    Ok(delivery)
}

impl MailboxService {
    fn plan(&self, recipients: &[String]) -> Plan {
        let table = self.accounts.now();
        let rules = self.rules.load();
        let mut plan = Plan {
            accounts: Vec::new(),
            recipients: Vec::with_capacity(recipients.len()),
        };
        let mut known = HashMap::new();
        for recipient in recipients {
            plan.recipients
                .push(match rules.resolve(&table, recipient) {
                    Resolved::Account(account) => {
                        let index = *known.entry(&account.name).or_insert_with(|| {
                            plan.accounts.push(account.name.clone());
                            plan.accounts.len() - 1
                        });
                        Ok(index)
                    }
                    Resolved::NoSuchUser => Err(NO_SUCH_USER),
                    Resolved::NotLocal => Err(NOT_LOCAL),
                });
        }
        plan
    }

    /// Writes the message to all accounts. An error means that the message did not come in
    /// whole, and that nothing was delivered; what the disk refuses is a result of the account.
    async fn store(
        &self,
        delivery: DeliveryId,
        reverse_path: &str,
        expected: u64,
        accounts: &[AccountName],
        body: BodyStream,
    ) -> Result<Vec<io::Result<Stored>>> {
        let accounts = accounts.to_vec();
        let mut body = Incoming {
            stream: body,
            expected,
            received: 0,
        };
        let mut pieces = vec![return_path(reverse_path)];
        let mut ended = body.gather(&mut pieces).await?;
        let store = self.store.clone();
        if ended {
            // The usual case: one visit to a blocking thread does it all.
            let run = move || match store
                .draft(delivery, &accounts)
                .and_then(|d| append(d, &pieces))
            {
                Ok(draft) => store.publish(draft, delivery, &accounts),
                Err(error) => failed(&accounts, &error),
            };
            return self.at_disk(run).await;
        }
        let mut draft = self
            .at_disk({
                let (store, accounts) = (store.clone(), accounts.clone());
                move || store.draft(delivery, &accounts)
            })
            .await?;
        loop {
            draft = match draft {
                Ok(draft) => self.at_disk(move || append(draft, &pieces)).await?,
                Err(error) => return Ok(failed(&accounts, &error)),
            };
            if ended {
                break;
            }
            pieces = Vec::new();
            ended = body.gather(&mut pieces).await?;
        }
        self.at_disk(move || match draft {
            Ok(draft) => store.publish(draft, delivery, &accounts),
            Err(error) => failed(&accounts, &error),
        })
        .await
    }

    /// Runs what blocks on a thread made for it, a bounded number at a time; a slow stream holds
    /// no place between its pieces. Once begun it is carried out, whoever still waits.
    async fn at_disk<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let slot = self.writers.clone().acquire_owned();
        let slot = slot.await.map_err(|_| Status::unavailable("stopping"))?;
        let run = move || {
            let _slot = slot;
            run()
        };
        tokio::task::spawn_blocking(run)
            .await
            .map_err(|_| Status::internal("a delivery panicked"))
    }

    /// Turns what was stored into replies, counts and log lines.
    fn report(
        &self,
        header: &DeliverHeader,
        plan: &Plan,
        stored: &[io::Result<Stored>],
    ) -> Vec<DeliverResult> {
        let mut results = Vec::with_capacity(header.recipients.len());
        for (address, target) in header.recipients.iter().zip(&plan.recipients) {
            let reply = match target {
                Ok(index) => reply_to(&stored[*index]),
                Err(reply) => *reply,
            };
            self.metrics.recipient(reply.outcome);
            let (queue_id, status) = (&header.queue_id, reply.status);
            match target.as_ref().map(|index| &stored[*index]) {
                Ok(Err(error)) => {
                    warn!(%queue_id, recipient = address, status, %error, "cannot deliver");
                }
                Ok(Ok(_)) => info!(%queue_id, recipient = address, status, "delivered to mailbox"),
                Err(_) => info!(%queue_id, recipient = address, status, "{}", reply.text),
            }
            results.push(DeliverResult {
                address: address.clone(),
                reply_code: reply.code,
                enhanced_status: reply.status.to_owned(),
                text: reply.text.to_owned(),
            });
        }
        results
    }
}

/// RFC 5321 section 4.4: whoever makes the final delivery puts the reverse-path on top.
fn return_path(reverse_path: &str) -> Bytes {
    let path = reverse_path.trim_matches(['<', '>']);
    format!("Return-Path: <{path}>\r\n").into()
}

/// The content as it comes in.
struct Incoming {
    stream: BodyStream,
    /// What the header promised; 0 if it promised nothing.
    expected: u64,
    received: u64,
}

impl Incoming {
    /// Takes in pieces until there is enough for one write. Returns whether the message has
    /// ended, and ended whole.
    async fn gather(&mut self, pieces: &mut Vec<Bytes>) -> Result<bool> {
        let mut gathered = 0;
        while gathered < GATHER {
            match tokio::time::timeout(PIECE_TIMEOUT, self.stream.next()).await {
                Ok(Some(piece)) => {
                    let piece = piece?;
                    gathered += piece.len();
                    self.received += piece.len() as u64;
                    pieces.push(piece);
                }
                Ok(None) if self.expected == 0 || self.received == self.expected => {
                    return Ok(true);
                }
                Ok(None) => {
                    return Err(Status::data_loss("the message is not as long as announced"));
                }
                Err(_) => return Err(Status::deadline_exceeded("the message stopped coming")),
            }
        }
        Ok(false)
    }
}

fn append(mut draft: Draft, pieces: &[Bytes]) -> io::Result<Draft> {
    draft.write(pieces)?;
    Ok(draft)
}

fn failed(accounts: &[AccountName], error: &io::Error) -> Vec<io::Result<Stored>> {
    let again = || io::Error::new(error.kind(), error.to_string());
    accounts.iter().map(|_| Err(again())).collect()
}

#[cfg(test)]
mod tests;
