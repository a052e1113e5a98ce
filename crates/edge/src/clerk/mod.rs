//! Answers what the session asks: policy, the directory, the queue.
//!
//! The session knows the protocol and decides nothing; the clerk decides and knows no protocol.
//! What the clerk keeps is what the answers need: who the client is, and the transaction under
//! way.

mod auth;
mod content;

use std::collections::HashMap;
use std::sync::Arc;

use postrider_smtp::address::{Address as SmtpAddress, ReversePath};
use postrider_smtp::envelope::{Envelope, MailParameters, Recipient};
use postrider_smtp::outline::Outline;
use postrider_smtp::reply::Reply;
use postrider_smtp::server::{Answer, DropReason, Question, recipients_ahead};
use postrider_smtp::status::EnhancedStatus;
use tracing::info;

use crate::directory;
use crate::edge::Shared;
use crate::metrics::{Outcome, RoleMetrics};
use crate::policy::{
    Address, Client, Decision, Existence, MailFacts, RcptFacts, Refusal, SessionFacts,
};
use crate::receive;
use crate::settings::{Settings, octets};
use crate::transaction::Transaction;

/// Recipients that one lookup asks for at most, besides the one whose turn it is.
const MOST_AHEAD: usize = 100;

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

    /// Answers one question. `ahead` is what the client has sent behind the line that led to it.
    pub(crate) async fn answer(
        &mut self,
        question: Question<'_>,
        ahead: &[u8],
        outline: &mut Outline,
    ) -> Answer {
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
            } => self.rcpt(envelope, recipient, ahead, outline).await,
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
            self.transaction = Some(Box::new(Transaction::new(parameters)));
        }
        answer
    }

    async fn rcpt(
        &mut self,
        envelope: &Envelope,
        recipient: &Recipient,
        ahead: &[u8],
        outline: &mut Outline,
    ) -> Answer {
        let routed = self.shared.domains.route(&recipient.path);
        // Out of the way for a moment, because the facts borrow the clerk.
        let mut transaction = self.transaction.take();
        let facts = RcptFacts {
            session: self.facts(),
            reverse_path: envelope.reverse_path.address().map(address),
            recipient: Address::parse(&routed.address),
            local: routed.local,
            existence: None,
        };
        let known = transaction
            .as_mut()
            .map(|transaction| &mut transaction.known);
        let lookup = async || Box::pin(self.exists(&routed.address, ahead, known)).await;
        let decision = self.settings.chain.rcpt(facts, lookup).await;
        if decision.is_ok()
            && let Some(transaction) = &mut transaction
        {
            transaction.routed.push(routed);
        }
        self.transaction = transaction;
        self.settle(decision, "RCPT", outline)
    }

    /// Whether a local recipient exists. Those that follow in the same pipelined group are asked for
    /// in the same call, and remembered in `known`: the directory may be another machine.
    async fn exists(
        &self,
        address: &str,
        ahead: &[u8],
        known: Option<&mut HashMap<String, Existence>>,
    ) -> Existence {
        let Some(known) = known else {
            return Existence::Unknown;
        };
        if let Some(existence) = known.get(address) {
            return *existence;
        }
        let mut addresses = vec![address.to_owned()];
        let local = |path| {
            let routed = self.shared.domains.route(&path);
            routed.local.then_some(routed.address)
        };
        let most = octets(self.settings.config.limits.recipients.into()).min(MOST_AHEAD);
        addresses.extend(recipients_ahead(ahead).filter_map(local).take(most));
        let wait = self.settings.config.timeouts.lookup.0;
        let found = directory::existence(&self.shared.directory, &addresses, wait).await;
        let mut found = addresses.into_iter().zip(found);
        let existence = found
            .next()
            .map_or(Existence::Unknown, |(_, existence)| existence);
        known.extend(found);
        existence
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
