//! What both stores say of a message that they export.

use std::collections::{HashMap, HashSet};

use postrider_protocol::queue_v1::{
    ExportedDelivery, JourneyEvent, NewMessage, OutcomeKind, journey_event,
};

/// Recipients of a queued message that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ended {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    /// By an operator.
    pub(crate) removed: u64,
}

impl Ended {
    /// Counts those that are in the envelope and not open any more. The journey tells what became of
    /// each; an operator has removed whom it does not name.
    pub(crate) fn count(
        message: &NewMessage,
        open: &[ExportedDelivery],
        journey: &[JourneyEvent],
    ) -> Self {
        let recipients = message
            .envelope
            .as_ref()
            .map_or(&[][..], |envelope| &envelope.recipients);
        // Deliveries are numbered by the first recipient of each destination.
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut left: HashMap<(u32, &str), usize> = HashMap::new();
        for delivery in open {
            for address in &delivery.recipients {
                *left.entry((delivery.number, address)).or_default() += 1;
            }
        }
        let kinds = first_ends(journey);
        let mut ended = Self::default();
        for recipient in recipients {
            let next = numbers.len() as u32;
            let number = *numbers.entry(&recipient.destination).or_insert(next);
            if let Some(left) = left.get_mut(&(number, recipient.address.as_str()))
                && *left > 0
            {
                *left -= 1;
                continue;
            }
            match kinds.get(recipient.address.as_str()) {
                Some(OutcomeKind::Delivered) => ended.delivered += 1,
                Some(OutcomeKind::Failed) => ended.failed += 1,
                _ => ended.removed += 1,
            }
        }
        ended
    }
}

/// How each address ended. As in a store, the first outcome of an address in an attempt counts.
fn first_ends(journey: &[JourneyEvent]) -> HashMap<&str, OutcomeKind> {
    let mut kinds = HashMap::new();
    for event in journey {
        let Some(journey_event::What::Attempt(attempt)) = &event.what else {
            continue;
        };
        let mut told = HashSet::new();
        for outcome in &attempt.outcomes {
            let ends = matches!(outcome.kind(), OutcomeKind::Delivered | OutcomeKind::Failed);
            if told.insert(outcome.address.as_str()) && ends {
                kinds
                    .entry(outcome.address.as_str())
                    .or_insert(outcome.kind());
            }
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use postrider_protocol::queue_v1::{Attempt, Envelope, Recipient, RecipientOutcome};

    use super::*;

    #[test]
    fn ended_recipients_are_counted_by_their_first_end() {
        let attempt = |outcomes: &[(&str, OutcomeKind)]| JourneyEvent {
            what: Some(journey_event::What::Attempt(Attempt {
                outcomes: outcomes
                    .iter()
                    .map(|(address, kind)| RecipientOutcome {
                        address: (*address).to_owned(),
                        kind: *kind as i32,
                        ..RecipientOutcome::default()
                    })
                    .collect(),
                ..Attempt::default()
            })),
            ..JourneyEvent::default()
        };
        let journey = [
            attempt(&[("a", OutcomeKind::Deferred), ("b", OutcomeKind::Delivered)]),
            attempt(&[("a", OutcomeKind::Failed), ("c", OutcomeKind::Deferred)]),
            attempt(&[
                ("gone", OutcomeKind::Deferred),
                ("gone", OutcomeKind::Failed),
            ]),
        ];
        let recipient = |address: &str, destination: &str| Recipient {
            address: address.to_owned(),
            destination: destination.to_owned(),
            ..Recipient::default()
        };
        let message = NewMessage {
            envelope: Some(Envelope {
                recipients: vec![
                    recipient("a", "smtp:x"),
                    recipient("b", "smtp:x"),
                    recipient("c", "smtp:y"),
                    recipient("gone", "smtp:x"),
                    recipient("c", "smtp:y"),
                ],
                ..Envelope::default()
            }),
            ..NewMessage::default()
        };
        let open = [ExportedDelivery {
            number: 1,
            recipients: vec!["c".to_owned(), "c".to_owned()],
            ..ExportedDelivery::default()
        }];
        let ended = Ended {
            delivered: 1,
            failed: 1,
            removed: 1,
        };
        assert_eq!(Ended::count(&message, &open, &journey), ended);
    }
}
