//! What every way of handing mail over has in common.
//!
//! A [`Transport`] makes slots; a [`Slot`] makes one attempt after another at one destination
//! and may keep something open in between. SMTP and the mailbox service are transports; LMTP
//! would be another.

use async_trait::async_trait;
use postrider_protocol::Destination;
use postrider_protocol::queue_v1::{DialogueLine, Envelope, LeasedDelivery, RecipientOutcome};
use postrider_telemetry::trace::MessageSpan;

use crate::cutoff::Cutoff;
use crate::dsn::Reach;
use crate::outcome::Verdict;

/// What an attempt gave.
#[derive(Debug)]
pub(crate) struct Report {
    /// One a recipient of the envelope, in its order.
    pub(crate) outcomes: Vec<RecipientOutcome>,
    /// Who was spoken to last; empty if nobody was reached.
    pub(crate) remote_host: String,
    /// Its address without port.
    pub(crate) remote_address: String,
    /// "TLSv1.3"; empty on a plain connection.
    pub(crate) tls: String,
    pub(crate) dialogue: Vec<DialogueLine>,
    /// How far delivered recipients' mail went.
    pub(crate) reach: Reach,
}

impl Report {
    /// The same verdict on everybody, without a word exchanged.
    pub(crate) fn of_all(envelope: &Envelope, verdict: &Verdict) -> Self {
        Self {
            outcomes: envelope
                .recipients
                .iter()
                .map(|recipient| verdict.clone().on(&recipient.address))
                .collect(),
            remote_host: String::new(),
            remote_address: String::new(),
            tls: String::new(),
            dialogue: Vec::new(),
            reach: Reach::Final,
        }
    }
}

/// A way to hand mail over.
pub(crate) trait Transport: Send + Sync {
    /// A slot of a destination. Nothing is opened yet. Its attempts end soon after the cutoff.
    fn slot(&self, destination: &Destination, cutoff: &Cutoff) -> Box<dyn Slot>;
}

/// One of the connections that a destination lease allows; opened when it is first needed.
#[async_trait]
pub(crate) trait Slot: Send {
    /// Makes one attempt. Always ends, within the deadlines of the configuration.
    async fn attempt(
        &mut self,
        delivery: &LeasedDelivery,
        envelope: &Envelope,
        span: &mut MessageSpan,
    ) -> Report;

    /// Whether something is open that the next attempt would use again.
    fn is_warm(&self) -> bool;

    /// Waits until what is open is not good any more. Cancel safe.
    async fn lost(&mut self);

    /// Closes what is open.
    async fn close(&mut self);

    /// Lets go of what is open, without a word: its state is not known.
    fn abandon(&mut self);
}
