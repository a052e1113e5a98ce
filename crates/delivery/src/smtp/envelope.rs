//! The queue's envelope as the SMTP session takes it.

use std::sync::Arc;

use postrider_protocol::queue_v1::{self, DsnReturn as Ret};
use postrider_smtp::address::{ForwardPath, ReversePath};
use postrider_smtp::client::Message;
use postrider_smtp::envelope::{
    DsnReturn, Envelope, MailParameters, Notify, Priority, RcptParameters, Recipient,
};

use crate::outcome::Verdict;

/// An envelope that can be sent, whole or to some of its recipients.
pub(super) struct Sendable {
    envelope: Arc<Envelope>,
    size: u64,
    /// Where each of the queue's recipients is among the envelope's, or why it is not.
    places: Vec<Result<usize, Verdict>>,
}

impl Sendable {
    pub(super) fn new(envelope: &queue_v1::Envelope, size: u64, priority: i32) -> Self {
        let reverse_path = ReversePath::parse(&envelope.reverse_path);
        let mut recipients = Vec::with_capacity(envelope.recipients.len());
        let places = envelope
            .recipients
            .iter()
            .map(|recipient| {
                if let Err(error) = &reverse_path {
                    return Err(Verdict::failed(
                        553,
                        "5.1.7",
                        format!("The sender's address cannot be sent: {error}"),
                    ));
                }
                let recipient = convert(recipient)?;
                recipients.push(recipient);
                Ok(recipients.len() - 1)
            })
            .collect();
        Self {
            envelope: Arc::new(Envelope {
                reverse_path: reverse_path.unwrap_or(ReversePath::Null),
                parameters: parameters(envelope, priority),
                recipients,
            }),
            size,
            places,
        }
    }

    /// Why a recipient, by its number in the queue's envelope, can be sent nowhere.
    pub(super) fn refusal(&self, number: usize) -> Option<Verdict> {
        self.places.get(number)?.as_ref().err().cloned()
    }

    /// The message for these recipients; `None` if there is none to send it to.
    pub(super) fn message(&self, who: &[usize]) -> Option<Message> {
        if who.is_empty() {
            return None;
        }
        let envelope = if who.len() == self.envelope.recipients.len() {
            self.envelope.clone()
        } else {
            Arc::new(Envelope {
                reverse_path: self.envelope.reverse_path.clone(),
                parameters: self.envelope.parameters.clone(),
                recipients: who
                    .iter()
                    .filter_map(|number| self.places.get(*number)?.as_ref().ok())
                    .map(|place| self.envelope.recipients[*place].clone())
                    .collect(),
            })
        };
        Some(Message {
            envelope,
            size: self.size,
        })
    }
}

fn convert(recipient: &queue_v1::Recipient) -> Result<Recipient, Verdict> {
    let path = ForwardPath::parse(&recipient.address).map_err(|error| {
        Verdict::failed(
            553,
            "5.1.3",
            format!("The address cannot be sent to: {error}"),
        )
    })?;
    let notify = u8::try_from(recipient.dsn_notify)
        .ok()
        .and_then(Notify::from_bits)
        .unwrap_or_default();
    Ok(Recipient {
        path,
        parameters: RcptParameters {
            notify,
            orcpt: boxed(&recipient.dsn_orcpt),
        },
    })
}

fn parameters(envelope: &queue_v1::Envelope, priority: i32) -> MailParameters {
    MailParameters {
        size: None,
        eight_bit_mime: envelope.eight_bit_mime,
        smtputf8: envelope.smtputf8,
        ret: match envelope.dsn_return() {
            Ret::Full => Some(DsnReturn::Full),
            Ret::Headers => Some(DsnReturn::Headers),
            Ret::Unspecified => None,
        },
        envid: boxed(&envelope.dsn_envid),
        hold: None,
        priority: Priority::new(priority).unwrap_or_default(),
    }
}

fn boxed(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(reverse_path: &str, recipients: &[&str]) -> queue_v1::Envelope {
        queue_v1::Envelope {
            reverse_path: reverse_path.to_owned(),
            recipients: recipients
                .iter()
                .map(|address| queue_v1::Recipient {
                    address: (*address).to_owned(),
                    ..queue_v1::Recipient::default()
                })
                .collect(),
            ..queue_v1::Envelope::default()
        }
    }

    #[test]
    fn recipients_that_are_none_are_left_out() {
        let sendable = Sendable::new(
            &envelope("a@b.test", &["x@y.test", "no address", "z@y.test"]),
            5,
            0,
        );
        assert_eq!(sendable.refusal(1).map(|v| v.status), Some("5.1.3".into()));
        assert_eq!(sendable.refusal(0), None);
        let message = sendable.message(&[0, 2]).unwrap();
        let sent: Vec<_> = message
            .envelope
            .recipients
            .iter()
            .map(|recipient| recipient.path.as_str())
            .collect();
        assert_eq!(sent, ["x@y.test", "z@y.test"]);
        let message = sendable.message(&[2]).unwrap();
        assert_eq!(message.envelope.recipients[0].path.as_str(), "z@y.test");
        assert!(sendable.message(&[]).is_none());
    }

    #[test]
    fn nothing_is_sent_from_what_is_no_address() {
        let sendable = Sendable::new(&envelope("no address", &["x@y.test"]), 5, 0);
        assert_eq!(sendable.refusal(0).map(|v| v.status), Some("5.1.7".into()));
    }
}
