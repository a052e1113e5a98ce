//! What holds for which destination: how it is retried, for how long, what becomes of an unknown
//! outcome. And how tenants share a destination.

use std::time::Duration;

use postrider_protocol::Destination;

use crate::retry::RetrySchedule;

/// What becomes of a delivery whose last attempt has an unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// It is tried again: a duplicate rather than a loss.
    #[default]
    Retry,
    /// It is held until an operator decides.
    Hold,
}

/// What holds for a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// When a deferred delivery is tried again.
    pub retry: RetrySchedule,
    /// How long a delivery is tried.
    pub lifetime: Duration,
    /// After how long the sender is told of the delay; `None`: never.
    pub delay_warning: Option<Duration>,
    /// What becomes of unknown outcomes.
    pub unknown: Unknown,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retry: RetrySchedule {
                first: Duration::from_secs(300),
                factor: 2.0,
                most: Duration::from_secs(4000),
                jitter: 0.1,
            },
            lifetime: Duration::from_secs(5 * 24 * 3600),
            delay_warning: Some(Duration::from_secs(4 * 3600)),
            unknown: Unknown::Retry,
        }
    }
}

/// A set of destinations: `smtp:example.org` is one, `smtp:*.example.org` the domains below
/// example.org, `mailbox:*` a whole transport, `*` everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationPattern {
    /// Everything.
    All,
    /// Everything of a transport.
    Transport(String),
    /// What begins and ends like this (`smtp:`, `.example.org`), with something between.
    Below(String, String),
    /// One destination.
    One(Destination),
}

/// Text that is no destination pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a destination or a pattern of destinations, as smtp:example.org, \
     smtp:*.example.org, smtp:* or *"
)]
pub struct InvalidPattern(String);

impl std::str::FromStr for DestinationPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(text.chars().take(300).collect());
        if text == "*" {
            return Ok(Self::All);
        }
        let one: Destination = text.parse().map_err(|_| invalid())?;
        let (transport, domain) = (one.transport(), one.domain());
        if domain == "*" {
            return Ok(Self::Transport(transport.to_owned()));
        }
        match domain.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') && rest.len() > 1 && !rest.contains('*') => {
                Ok(Self::Below(format!("{transport}:"), rest.to_owned()))
            }
            None if !domain.contains('*') => Ok(Self::One(one)),
            _ => Err(invalid()),
        }
    }
}

impl DestinationPattern {
    /// Whether the destination is in the set.
    #[must_use]
    pub fn matches(&self, destination: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one.as_str() == destination,
            Self::Transport(transport) => destination
                .strip_prefix(transport.as_str())
                .is_some_and(|rest| rest.starts_with(':')),
            Self::Below(prefix, suffix) => {
                destination.len() > prefix.len() + suffix.len()
                    && destination.starts_with(prefix.as_str())
                    && destination.ends_with(suffix.as_str())
            }
        }
    }
}

/// All policies: the first whose pattern matches holds, otherwise the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policies {
    /// Where no pattern matches.
    pub default: Policy,
    /// In order.
    pub by_destination: Vec<(DestinationPattern, Policy)>,
    /// Tenants' weights where they are not 1.
    pub weights: Vec<(String, u32)>,
}

impl Policies {
    /// What holds for a destination.
    #[must_use]
    pub fn of(&self, destination: &str) -> &Policy {
        self.by_destination
            .iter()
            .find(|(pattern, _)| pattern.matches(destination))
            .map_or(&self.default, |(_, policy)| policy)
    }

    /// A tenant's share of a destination, relative to the others'; at least 1.
    #[must_use]
    pub fn weight(&self, tenant: &str) -> u32 {
        self.weights
            .iter()
            .find(|(name, _)| name == tenant)
            .map_or(1, |(_, weight)| (*weight).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> DestinationPattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_what_they_say() {
        for (text, yes, no) in [
            ("*", "smtp:a.test", ""),
            ("smtp:*", "smtp:a.test", "mailbox:a.test"),
            ("smtp:a.test", "smtp:a.test", "smtp:b.a.test"),
            ("smtp:*.a.test", "smtp:b.a.test", "smtp:a.test"),
            ("smtp:*.a.test", "smtp:c.b.a.test", "smtp:ba.test"),
            ("smtp:*.a.test", "smtp:b.a.test", "mailbox:b.a.test"),
        ] {
            assert!(pattern(text).matches(yes), "{text} {yes}");
            assert!(no.is_empty() || !pattern(text).matches(no), "{text} {no}");
        }
        for bad in [
            "",
            "a.test",
            "smtp:",
            "smtp:a*.test",
            "smtp:*a",
            "**",
            "smtp:*.*.a",
        ] {
            assert!(bad.parse::<DestinationPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_match_holds() {
        let short = Policy {
            lifetime: Duration::from_secs(60),
            ..Policy::default()
        };
        let policies = Policies {
            by_destination: vec![
                (pattern("smtp:a.test"), short.clone()),
                (pattern("smtp:*"), Policy::default()),
            ],
            weights: vec![("big".to_owned(), 5), ("none".to_owned(), 0)],
            ..Policies::default()
        };
        assert_eq!(policies.of("smtp:a.test"), &short);
        assert_eq!(policies.of("smtp:b.test"), &Policy::default());
        assert_eq!(policies.of("mailbox:b.test"), &policies.default);
        assert_eq!(policies.weight("big"), 5);
        assert_eq!(policies.weight("none"), 1);
        assert_eq!(policies.weight("other"), 1);
    }
}
