//! What a filter and a suspension match.

use std::collections::HashSet;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::delivery_status::State;
use postrider_protocol::queue_v1::{DeliveryStatus, Filter, Suspension};

use super::StoreError;
use crate::policy::DestinationPattern;

/// A set of addresses: one, all of a domain, or the null reverse-path. Compares without regard to
/// ASCII case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressPattern {
    /// The null reverse-path.
    Null,
    /// What ends like this: `@example.org`, in lower case.
    Domain(String),
    /// One address, in lower case.
    One(String),
}

impl AddressPattern {
    /// Reads `<>`, `@example.org` or an address.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text {
            "<>" => Self::Null,
            text if text.starts_with('@') => Self::Domain(text.to_ascii_lowercase()),
            text => Self::One(text.to_ascii_lowercase()),
        }
    }

    /// Whether the address is in the set.
    #[must_use]
    pub fn matches(&self, address: &str) -> bool {
        match self {
            Self::Null => address.is_empty(),
            Self::One(one) => address.eq_ignore_ascii_case(one),
            Self::Domain(domain) => address
                .len()
                .checked_sub(domain.len())
                .and_then(|at| address.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(domain)),
        }
    }
}

/// A filter, taken apart once. What is cheap to know is asked for first.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Only these, if there are any.
    pub ids: HashSet<QueueId>,
    /// Where they go.
    pub destination: Option<DestinationPattern>,
    /// Whose reverse-path it is.
    pub sender: Option<AddressPattern>,
    /// An open recipient.
    pub recipient: Option<AddressPattern>,
    /// Whose mail it is.
    pub tenant: Option<String>,
    /// Text of a last reply, in lower case.
    pub last_reply: Option<String>,
    filter: Filter,
}

impl Matcher {
    /// Reads a filter.
    ///
    /// # Errors
    /// An id or the destination is none.
    pub fn new(filter: &Filter) -> Result<Self, StoreError> {
        let invalid = |problem: String| StoreError::Invalid(problem);
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let ids = filter.queue_ids.iter().map(|id| {
            id.parse::<QueueId>()
                .map_err(|error| invalid(format!("{id:?}: {error}")))
        });
        let destination = set(&filter.destination)
            .map(|text| text.parse::<DestinationPattern>())
            .transpose()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            ids: ids.collect::<Result<_, _>>()?,
            destination,
            sender: set(&filter.sender).map(|text| AddressPattern::new(&text)),
            recipient: set(&filter.recipient).map(|text| AddressPattern::new(&text)),
            tenant: set(&filter.tenant),
            last_reply: set(&filter.last_reply).map(|text| text.to_lowercase()),
            filter: filter.clone(),
        })
    }

    /// Whether the id may be one of those.
    #[must_use]
    pub fn may_be(&self, id: QueueId) -> bool {
        self.ids.is_empty() || self.ids.contains(&id)
    }

    /// Whether a delivery, as it is shown, is one of those.
    #[must_use]
    pub fn matches(&self, status: &DeliveryStatus) -> bool {
        let filter = &self.filter;
        let is = |wanted: bool, fact: bool| !wanted || fact;
        let listed = self.ids.is_empty()
            || status
                .queue_id
                .parse()
                .is_ok_and(|id: QueueId| self.ids.contains(&id));
        listed
            && is(filter.held, status.state() == State::Held)
            && is(filter.suspended, status.state() == State::Suspended)
            && is(filter.unknown, status.unknown_attempts > 0)
            && status.attempts >= filter.min_attempts
            && is(
                filter.accepted_before_us > 0,
                status.accepted_us < filter.accepted_before_us,
            )
            && status.accepted_us >= filter.accepted_after_us
            && self
                .destination
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&status.destination))
            && self
                .tenant
                .as_ref()
                .is_none_or(|tenant| *tenant == status.tenant)
            && self
                .sender
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&status.reverse_path))
            && self.recipient.as_ref().is_none_or(|pattern| {
                status
                    .recipients
                    .iter()
                    .any(|recipient| pattern.matches(recipient))
            })
            && self.last_reply.as_ref().is_none_or(|text| {
                status
                    .last_outcomes
                    .iter()
                    .any(|outcome| outcome.reply_text.to_lowercase().contains(text))
            })
    }
}

/// Whether a suspension stops such a delivery.
#[must_use]
pub fn suspends(suspension: &Suspension, destination: &str, sender: &str, tenant: &str) -> bool {
    (suspension.destination.is_empty() || suspension.destination == destination)
        && (suspension.tenant.is_empty() || suspension.tenant == tenant)
        && (suspension.sender.is_empty() || AddressPattern::new(&suspension.sender).matches(sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> DeliveryStatus {
        DeliveryStatus {
            queue_id: QueueId::new().to_string(),
            destination: "smtp:mx.a.test".to_owned(),
            reverse_path: "Bob@B.test".to_owned(),
            recipients: vec!["alice@a.test".to_owned()],
            tenant: "b".to_owned(),
            attempts: 2,
            accepted_us: 10,
            ..DeliveryStatus::default()
        }
    }

    fn matches(filter: Filter) -> bool {
        Matcher::new(&filter).unwrap().matches(&delivery())
    }

    #[test]
    fn each_field_narrows() {
        assert!(matches(Filter::default()));
        let text = |set: fn(&mut Filter) -> &mut String, value: &str| {
            let mut filter = Filter::default();
            *set(&mut filter) = value.to_owned();
            matches(filter)
        };
        for (set, yes, no) in [
            (
                (|filter| &mut filter.sender) as fn(&mut Filter) -> &mut String,
                "bob@b.TEST",
                "<>",
            ),
            (|filter| &mut filter.sender, "@b.test", "@xb.test"),
            (|filter| &mut filter.recipient, "@a.test", "bob@b.test"),
            (
                |filter| &mut filter.destination,
                "smtp:*.a.test",
                "smtp:a.test",
            ),
            (|filter| &mut filter.tenant, "b", "B"),
        ] {
            assert!(text(set, yes), "{yes}");
            assert!(!text(set, no), "{no}");
        }
        let number = |set: fn(&mut Filter)| {
            let mut filter = Filter::default();
            set(&mut filter);
            matches(filter)
        };
        assert!(number(|filter| filter.min_attempts = 2));
        assert!(!number(|filter| filter.min_attempts = 3));
        assert!(number(|filter| filter.accepted_before_us = 11));
        assert!(!number(|filter| filter.accepted_before_us = 10));
        assert!(!number(|filter| filter.accepted_after_us = 11));
        assert!(!number(|filter| filter.held = true));
        assert!(!number(|filter| filter.suspended = true));
        assert!(!number(|filter| filter.unknown = true));
        assert!(!number(|filter| filter.last_reply = "busy".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let filter = Filter {
            destination: "nonsense".to_owned(),
            ..Filter::default()
        };
        assert!(Matcher::new(&filter).is_err());
    }

    #[test]
    fn a_suspension_stops_what_fits_all_of_it() {
        let suspension = Suspension {
            sender: "@b.test".to_owned(),
            tenant: "b".to_owned(),
            ..Suspension::default()
        };
        assert!(suspends(&suspension, "smtp:x.test", "bob@B.test", "b"));
        assert!(!suspends(&suspension, "smtp:x.test", "bob@b.test", "c"));
        assert!(!suspends(&suspension, "smtp:x.test", "bob@c.test", "b"));
    }
}
