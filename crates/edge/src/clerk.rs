//! Answers what the session asks: policy, the directory, the queue.
//!
//! The session knows the protocol and decides nothing; the clerk decides and knows no protocol.
//! What the clerk keeps is what the answers need: who the client is, and the transaction under
//! way.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postrider_smtp::address::{Address as SmtpAddress, ReversePath};
use postrider_smtp::credentials::Credentials;
use postrider_smtp::envelope::{Envelope, MailParameters, Recipient};
use postrider_smtp::outline::Outline;
use postrider_smtp::reply::Reply;
use postrider_smtp::server::{Answer, DropReason, Question};
use postrider_smtp::status::EnhancedStatus;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::directory::{self, Access};
use crate::edge::Shared;
use crate::headers::{self, Headers};
use crate::intake::{Intake, Progress};
use crate::metrics::{self, Outcome, RoleMetrics};
use crate::policy::{
    Address, Client, ContentFacts, Decision, MailFacts, RcptFacts, Refusal, SessionFacts,
};
use crate::receive;
use crate::settings::Settings;
use crate::transaction::{Arrival, Transaction};

/// Wait before a failed authentication is answered, times the number of failures so far: nobody
/// notices at a slip, and guessing takes forever.
const AUTH_DELAY: Duration = Duration::from_millis(500);

/// Answers the questions of one session.
pub(crate) struct Clerk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) client: Client,
    /// What the client called itself; empty before EHLO.
    pub(crate) hello: String,
    pub(crate) extended: bool,
    /// "TLSv1.3" and the like, under TLS.
    pub(crate) tls: Option<&'static str>,
    /// Who has authenticated.
    pub(crate) account: Option<String>,
    auth_failures: u32,
    /// Boxed: most sessions wait, and then there is none.
    pub(crate) transaction: Option<Box<Transaction>>,
}

impl Clerk {
    pub(crate) fn new(shared: Arc<Shared>, settings: Arc<Settings>, client: Client) -> Self {
        Self {
            shared,
            settings,
            client,
            hello: String::new(),
            extended: false,
            tls: None,
            account: None,
            auth_failures: 0,
            transaction: None,
        }
    }

    /// Answers one question.
    pub(crate) async fn answer(&mut self, question: Question<'_>, outline: &mut Outline) -> Answer {
        match question {
            // Asked and answered when the connection was made, before a handshake was paid for.
            Question::Connection => Answer::Accept,
            Question::Helo { name, esmtp } => self.helo(name, esmtp, outline),
            Question::Authenticate { credentials, .. } => {
                Box::pin(self.authenticate(credentials)).await
            }
            Question::Mail {
                reverse_path,
                parameters,
            } => self.mail(reverse_path, parameters, outline),
            Question::Rcpt {
                envelope,
                recipient,
            } => self.rcpt(envelope, recipient, outline).await,
            Question::Content { envelope } => self.content(envelope),
            Question::EndOfMessage { envelope, .. } => {
                // Boxed: only a message under way needs the space.
                Box::pin(receive::end_of_message(self, &envelope, outline)).await
            }
        }
    }

    pub(crate) fn metrics(&self) -> &RoleMetrics {
        self.shared.metrics(self.client.role)
    }

    pub(crate) fn facts(&self) -> SessionFacts<'_> {
        SessionFacts {
            client: &self.client,
            hello: &self.hello,
            encrypted: self.tls.is_some(),
            account: self.account.as_deref(),
        }
    }

    /// The connection is under TLS now; what the client said in clear is forgotten
    /// (RFC 3207 section 4.2).
    pub(crate) fn tls_established(&mut self, version: &'static str) {
        self.tls = Some(version);
        self.account = None;
        self.hello = String::new();
    }

    fn helo(&mut self, name: &str, esmtp: bool, outline: &mut Outline) -> Answer {
        name.clone_into(&mut self.hello);
        self.extended = esmtp;
        self.settle(self.settings.chain.hello(&self.facts()), "EHLO", outline)
    }

    async fn authenticate(&mut self, credentials: &Credentials) -> Answer {
        let shared = Arc::clone(&self.shared);
        let wait = self.settings.config.timeouts.lookup.0;
        let client = self.client.address;
        match directory::authenticate(&shared.directory, credentials, client, wait).await {
            Access::Granted(account) => {
                metrics::authenticated("granted");
                debug!(%client, account, "authenticated");
                self.account = Some(account);
                Answer::Authenticated
            }
            Access::Denied => {
                metrics::authenticated("denied");
                info!(%client, role = %self.client.role, "authentication failed");
                self.auth_failures += 1;
                sleep(AUTH_DELAY * self.auth_failures).await;
                Answer::Denied
            }
            Access::Unknown => {
                metrics::authenticated("unavailable");
                Answer::Refuse(Reply::new(
                    454,
                    EnhancedStatus::transient(7, 0),
                    "Cannot authenticate you now, try again later",
                ))
            }
        }
    }

    fn mail(
        &mut self,
        reverse_path: &ReversePath,
        parameters: &MailParameters,
        outline: &mut Outline,
    ) -> Answer {
        self.abandon();
        let facts = MailFacts {
            session: self.facts(),
            reverse_path: reverse_path.address().map(address),
        };
        let answer = self.settle(self.settings.chain.mail(&facts), "MAIL", outline);
        if matches!(answer, Answer::Accept) {
            self.transaction = Some(Box::new(Transaction::new(parameters.size)));
        }
        answer
    }

    async fn rcpt(
        &mut self,
        envelope: &Envelope,
        recipient: &Recipient,
        outline: &mut Outline,
    ) -> Answer {
        let routed = self.shared.domains.route(&recipient.path);
        let facts = RcptFacts {
            session: self.facts(),
            reverse_path: envelope.reverse_path.address().map(address),
            recipient: Address::parse(&routed.address),
            local: routed.local,
            existence: None,
        };
        let wait = self.settings.config.timeouts.lookup.0;
        let lookup = async || {
            Box::pin(directory::existence(
                &self.shared.directory,
                &routed.address,
                wait,
            ))
            .await
        };
        let decision = self.settings.chain.rcpt(facts, lookup).await;
        self.settle(decision, "RCPT", outline)
    }

    /// Content is about to come.
    fn content(&mut self, envelope: &Envelope) -> Answer {
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
        if !headers.ends_properly {
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

    /// The session refuses the content, or the client gave it up: lets go of it.
    pub(crate) fn drop_content(&mut self, why: DropReason) {
        self.end(match why {
            DropReason::Refused(_) => Outcome::Rejected,
            DropReason::Abandoned => Outcome::Aborted,
        });
    }

    /// The transaction under way, if any, leads nowhere.
    pub(crate) fn abandon(&mut self) {
        self.end(Outcome::Aborted);
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(mut transaction) = self.transaction.take() {
            transaction.span.error(match outcome {
                Outcome::Accepted | Outcome::Rejected => "rejected",
                Outcome::Deferred => "deferred",
                Outcome::Aborted => "aborted",
            });
            self.metrics()
                .transaction(outcome, transaction.began.elapsed());
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
            now,
        }
    }

    /// A decision as the session wants it; what was annotated goes into the journey.
    fn settle(&self, decision: Decision, command: &'static str, outline: &mut Outline) -> Answer {
        match decision {
            Ok(notes) => {
                for text in &notes {
                    outline.note(text);
                }
                Answer::Accept
            }
            Err(refusal) => {
                self.log_refusal(command, &refusal);
                // RFC 5321 section 3.8: 421 says that the connection ends.
                if refusal.reply.code() == 421 {
                    Answer::RefuseAndClose(refusal.reply)
                } else {
                    Answer::Refuse(refusal.reply)
                }
            }
        }
    }

    fn log_refusal(&self, command: &'static str, refusal: &Refusal) {
        let queue_id = self.transaction.as_ref().map(|transaction| transaction.id);
        info!(
            queue_id = queue_id.map(tracing::field::display),
            client = %self.client.address,
            role = %self.client.role,
            command,
            reason = refusal.reason,
            reply = %refusal.reply,
            "refused"
        );
    }
}

/// 451 4.3.0: nothing is lost, nothing is promised.
pub(crate) fn temporary_failure() -> Answer {
    Answer::Refuse(Reply::new(
        451,
        EnhancedStatus::transient(3, 0),
        "Cannot take the message now, try again later",
    ))
}

fn address(address: &SmtpAddress) -> Address<'_> {
    Address {
        local_part: address.local_part(),
        domain: address.domain_text(),
    }
}
