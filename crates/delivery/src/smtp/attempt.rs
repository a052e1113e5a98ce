//! An attempt under way: who has an outcome, who has not, and what was said so far.

use postrider_protocol::Status;
use postrider_protocol::queue_v1::{
    DialogueLine, Envelope, LeasedDelivery, OutcomeKind, RecipientOutcome, dialogue_line::From,
};
use postrider_smtp::client::{Message, Outcome};

use super::envelope::Sendable;
use crate::connection::{Connection, Target};
use crate::dsn::Reach;
use crate::mailbox::missing;
use crate::outcome::Verdict;
use crate::transport::Report;
use crate::verdict;

/// An attempt under way.
pub(super) struct Attempt<'a> {
    pub(super) delivery: &'a LeasedDelivery,
    envelope: &'a Envelope,
    sendable: Sendable,
    outcomes: Vec<Option<RecipientOutcome>>,
    /// What the last connection that was lost left them with, should no other be found.
    fallback: Option<Verdict>,
    pub(super) dialogue: Vec<DialogueLine>,
    host: String,
    address: String,
    tls: &'static str,
    pub(super) reach: Reach,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(delivery: &'a LeasedDelivery, envelope: &'a Envelope) -> Self {
        let size = delivery.body.as_ref().map_or(0, |body| body.size);
        let sendable = Sendable::new(envelope, size, delivery.priority);
        let outcomes = envelope
            .recipients
            .iter()
            .enumerate()
            .map(|(number, recipient)| {
                let refusal = sendable.refusal(number)?;
                Some(refusal.on(&recipient.address))
            })
            .collect();
        Self {
            delivery,
            envelope,
            sendable,
            outcomes,
            fallback: None,
            dialogue: Vec::new(),
            host: String::new(),
            address: String::new(),
            tls: "",
            reach: Reach::Relayed,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcomes.iter().all(Option::is_some)
    }

    /// The message for recipients that have no outcome yet, and who they are.
    pub(super) fn next_message(&self, most: usize) -> Option<(Vec<usize>, Message)> {
        let who: Vec<usize> = (0..self.outcomes.len())
            .filter(|number| self.outcomes[*number].is_none())
            .take(most)
            .collect();
        let message = self.sendable.message(&who)?;
        Some((who, message))
    }

    /// Takes the outcomes of a transaction. False if there is no use in another transaction
    /// over the same connection.
    pub(super) fn take(
        &mut self,
        who: &[usize],
        outcomes: &[Outcome],
        first_of_reused: bool,
    ) -> bool {
        let mut progress = false;
        if outcomes.is_empty() {
            let lost = Verdict::deferred("4.4.2", "The connection was lost");
            self.fallback = Some(lost);
        }
        // Most recipients of a message share the reply to its end.
        let mut last: Option<(&Outcome, Option<Verdict>)> = None;
        for (number, outcome) in who.iter().zip(outcomes) {
            if let Outcome::Deferred(failure) = outcome
                && verdict::is_of_connection(failure)
            {
                // Not their fault: another connection may do better. An old one that was lost
                // at once was only too old.
                if !first_of_reused {
                    self.fallback = Some(verdict::of_failure(failure));
                }
                continue;
            }
            if let Outcome::NextTransaction(reply) = outcome {
                self.fallback = Some(verdict::of_reply(reply));
            }
            if last.as_ref().is_none_or(|(known, _)| *known != outcome) {
                last = Some((outcome, verdict::of_outcome(outcome)));
            }
            if let Some((_, Some(verdict))) = &last {
                let address = &self.envelope.recipients[*number].address;
                self.outcomes[*number] = Some(verdict.clone().on(address));
                progress = true;
            }
        }
        progress
    }

    /// The content is not there: nobody gets it now.
    pub(super) fn fail_content(&mut self, error: &Status) {
        let verdict = missing(self.delivery, error);
        for (outcome, recipient) in self.outcomes.iter_mut().zip(&self.envelope.recipients) {
            let open = outcome
                .as_ref()
                .is_none_or(|known| known.kind() == OutcomeKind::Deferred && !known.from_remote);
            if open {
                *outcome = Some(verdict.clone().on(&recipient.address));
            }
        }
    }

    /// Gives everybody without an outcome this one, unless a lost connection has left another.
    pub(super) fn settle_rest(&mut self, problem: Verdict) {
        let verdict = self.fallback.take().unwrap_or(problem);
        for (outcome, recipient) in self.outcomes.iter_mut().zip(&self.envelope.recipients) {
            if outcome.is_none() {
                *outcome = Some(verdict.clone().on(&recipient.address));
            }
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        self.dialogue.push(DialogueLine {
            from: From::Note.into(),
            text: text.to_owned(),
            at_us: 0,
        });
    }

    pub(super) fn met(&mut self, target: &Target) {
        self.host.clone_from(&target.host);
        self.address = target.address.ip().to_string();
        self.tls = "";
    }

    pub(super) fn meet(&mut self, connection: &Connection) {
        self.host.clone_from(&connection.host);
        self.address = connection.address.ip().to_string();
        self.tls = connection.tls;
    }

    pub(super) fn report(self) -> Report {
        Report {
            outcomes: self.outcomes.into_iter().flatten().collect(),
            remote_host: self.host,
            remote_address: self.address,
            tls: self.tls.to_owned(),
            dialogue: self.dialogue,
            reach: self.reach,
        }
    }
}
