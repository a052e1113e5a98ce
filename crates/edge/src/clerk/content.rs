//! Content: what is written above it, what is judged of it, where it goes while it arrives.

use std::time::SystemTime;

use postrider_smtp::envelope::Envelope;
use postrider_smtp::outline::Outline;
use postrider_smtp::reply::Reply;
use postrider_smtp::server::Answer;
use postrider_smtp::status::EnhancedStatus;
use tokio::time::Instant;

use super::{Clerk, temporary_failure};
use crate::headers::{self, Headers};
use crate::intake::{Intake, Progress};
use crate::policy::ContentFacts;
use crate::transaction::{Arrival, Transaction};

impl Clerk {
    /// Content is about to come.
    pub(super) fn content(&mut self, envelope: &Envelope) -> Answer {
        let Some(mut transaction) = self.transaction.take() else {
            return temporary_failure();
        };
        let mut received = String::with_capacity(512);
        headers::received(
            &self.trace_line(&transaction, envelope, SystemTime::now()),
            &mut received,
        );
        let room = received.len() + self.completion_room();
        transaction.content = Some(Arrival {
            began: Instant::now(),
            intake: Intake::new(self.settings.bounds(), room, transaction.expected),
            received,
            message_id: String::new(),
        });
        self.transaction = Some(transaction);
        Answer::Accept
    }

    /// Takes a piece of content. What it leads to is told at the end of the content.
    pub(crate) fn piece(&mut self, piece: &[u8], outline: &mut Outline) {
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let Some(arrival) = &mut transaction.content else {
            return;
        };
        match arrival.intake.push(piece) {
            Progress::More => {}
            Progress::Headers(headers) => self.judge(headers, outline),
            Progress::HeadersTooLarge => self.refuse_content(Reply::new(
                552,
                EnhancedStatus::permanent(3, 4),
                "Header section is too large",
            )),
        }
    }

    /// Moves content on into the body store, if there is more than should be held. Waits while
    /// the store is behind, and with it the client.
    pub(crate) async fn flow(&mut self) {
        let wait = self.settings.config.timeouts.enqueue.0;
        if let Some(transaction) = &mut self.transaction
            && let Some(arrival) = &mut transaction.content
            && arrival.intake.is_full()
        {
            arrival.intake.flow(&self.shared.queue, wait).await;
        }
    }

    /// Since when content arrives.
    pub(crate) fn content_began(&self) -> Option<Instant> {
        let transaction = self.transaction.as_ref()?;
        transaction.content.as_ref().map(|arrival| arrival.began)
    }

    /// Whether [`Clerk::flow`] has something to do.
    pub(crate) fn is_full(&self) -> bool {
        self.transaction
            .as_ref()
            .and_then(|transaction| transaction.content.as_ref())
            .is_some_and(|arrival| arrival.intake.is_full())
    }

    /// The header section is known: asks policy, and writes what stands above it.
    pub(crate) fn judge(&mut self, headers: Headers, outline: &mut Outline) {
        let facts = ContentFacts {
            session: self.facts(),
            hops: headers.hops,
        };
        match self.settle(self.settings.chain.content(&facts), "content", outline) {
            Answer::Refuse(reply) | Answer::RefuseAndClose(reply) => self.refuse_content(reply),
            _ => self.begin_body(headers),
        }
    }

    fn begin_body(&mut self, headers: Headers) {
        let complete = self.client.role.is_submission();
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let id = transaction.id;
        let Some(arrival) = &mut transaction.content else {
            return;
        };
        let mut prefix = std::mem::take(&mut arrival.received);
        let made = complete.then(|| {
            let now = SystemTime::now();
            headers::complete(&headers, id, &self.shared.hostname, now, &mut prefix)
        });
        // Text without any header section must not be read as one behind our fields. Where there
        // are fields, what follows them is as its author left it.
        if headers.len == 0 && !headers.ends_properly {
            prefix.push_str("\r\n");
        }
        arrival.message_id = made.flatten().unwrap_or(headers.message_id);
        arrival.intake.begin_body(prefix.as_bytes());
    }

    fn refuse_content(&mut self, reply: Reply) {
        if let Some(transaction) = &mut self.transaction {
            if let Some(arrival) = &mut transaction.content {
                arrival.intake.refuse();
            }
            transaction.refusal = Some(reply);
        }
    }

    /// Octets that [`headers::complete`] and a missing empty line may need.
    fn completion_room(&self) -> usize {
        let completion = if self.client.role.is_submission() {
            headers::completion_room(&self.shared.hostname)
        } else {
            0
        };
        completion + "\r\n".len()
    }

    fn trace_line<'a>(
        &'a self,
        transaction: &Transaction,
        envelope: &'a Envelope,
        now: SystemTime,
    ) -> headers::Received<'a> {
        headers::Received {
            hello: &self.hello,
            client: self.client.address,
            hostname: &self.shared.hostname,
            with: headers::Protocol {
                extended: self.extended,
                encrypted: self.tls.is_some(),
                authenticated: self.account.is_some(),
                utf8: envelope.parameters.smtputf8,
            },
            id: transaction.id,
            recipient: match envelope.recipients.as_slice() {
                [only] => Some(only.path.as_str()),
                _ => None,
            },
            priority: envelope.parameters.priority.get(),
            now,
        }
    }
}
