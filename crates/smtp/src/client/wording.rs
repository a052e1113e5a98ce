//! What of the envelope is said to a server, by what it offers.

use alloc::borrow::Cow;

use super::event::{Failure, FailureKind, Message};
use super::offer::Offer;
use super::phase::Phase;
use crate::address::Address;
use crate::envelope::{MailParameters, Priority, RcptParameters};
use crate::extension::Extensions;
use crate::output::Output;
use crate::parameter::{MAX_ENVID, is_bounded_xtext, is_orcpt};
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// Decides once a transaction which parameters go along and how addresses are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wording {
    size: bool,
    eight_bit_mime: bool,
    smtputf8: bool,
    dsn: bool,
    priority: bool,
}

impl Wording {
    /// Fails if the server's offer rules the message out.
    pub(super) fn of(message: &Message, offer: &Offer) -> Result<Self, Failure> {
        let parameters = &message.envelope.parameters;
        let fail = |kind, code, subject, detail, text: &'static str| Failure {
            phase: Phase::Mail,
            kind,
            reply: Reply::new(code, EnhancedStatus::permanent(subject, detail), text),
        };
        if offer.size != 0 && message.size > offer.size {
            return Err(fail(
                FailureKind::TooLarge,
                552,
                3,
                4,
                "The message is larger than the server takes",
            ));
        }
        let needs_smtputf8 = parameters.smtputf8 || has_international_local_part(message);
        if needs_smtputf8 && !offer.has(Extensions::SMTPUTF8) {
            return Err(fail(
                FailureKind::NeedsSmtpUtf8,
                550,
                6,
                7,
                "The message needs SMTPUTF8, which the server does not offer",
            ));
        }
        Ok(Self {
            size: offer.has(Extensions::SIZE),
            eight_bit_mime: parameters.eight_bit_mime && offer.has(Extensions::EIGHT_BIT_MIME),
            smtputf8: needs_smtputf8,
            dsn: offer.has(Extensions::DSN),
            priority: offer.has(Extensions::MT_PRIORITY),
        })
    }

    pub(super) fn mail(self, message: &Message, output: &mut Output) {
        let given = &message.envelope.parameters;
        let envid = given.envid.clone();
        let parameters = MailParameters {
            size: self.size.then_some(message.size),
            eight_bit_mime: self.eight_bit_mime,
            smtputf8: self.smtputf8,
            ret: given.ret.filter(|_| self.dsn),
            envid: envid.filter(|id| self.dsn && is_bounded_xtext(id, MAX_ENVID)),
            hold: None,
            priority: if self.priority {
                given.priority
            } else {
                Priority::default()
            },
        };
        let path = match message.envelope.reverse_path.address() {
            None => Cow::Borrowed(""),
            Some(address) => self.address(address),
        };
        output.command(format_args!("MAIL FROM:<{path}>{parameters}"));
    }

    pub(super) fn rcpt(self, message: &Message, index: usize, output: &mut Output) {
        let recipient = &message.envelope.recipients[index];
        let path = match recipient.path.address() {
            None => Cow::Borrowed("postmaster"),
            Some(address) => self.address(address),
        };
        if !self.dsn {
            return output.command(format_args!("RCPT TO:<{path}>"));
        }
        let orcpt = recipient.parameters.orcpt.clone();
        let parameters = RcptParameters {
            notify: recipient.parameters.notify,
            orcpt: orcpt.filter(|orcpt| is_orcpt(orcpt) && (self.smtputf8 || orcpt.is_ascii())),
        };
        output.command(format_args!("RCPT TO:<{path}>{parameters}"));
    }

    /// The address, with A-labels where UTF-8 may not be sent.
    fn address(self, address: &Address) -> Cow<'_, str> {
        if self.smtputf8 || address.is_ascii() {
            return Cow::Borrowed(address.as_str());
        }
        // An international local part made `smtputf8` true above.
        match address.to_ascii() {
            Some(ascii) => Cow::Owned(ascii.as_str().into()),
            None => Cow::Borrowed(address.as_str()),
        }
    }
}

fn has_international_local_part(message: &Message) -> bool {
    let envelope = &message.envelope;
    let recipients = envelope
        .recipients
        .iter()
        .filter_map(|recipient| recipient.path.address());
    envelope
        .reverse_path
        .address()
        .into_iter()
        .chain(recipients)
        .any(|address| !address.local_part().is_ascii())
}
