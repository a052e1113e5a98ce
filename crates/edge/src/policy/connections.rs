//! Stage `connections`: no client takes what others need.

use super::{ConnectFacts, Stage, Verdict};
use crate::config::{Limits, StageName};

/// Bounds connections in all, and from one client. Trusted clients are bounded only in all.
pub(super) struct Connections {
    in_all: u32,
    per_client: u32,
}

impl Connections {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            in_all: limits.connections,
            per_client: limits.connections_per_client,
        }
    }
}

impl Stage for Connections {
    fn name(&self) -> StageName {
        StageName::Connections
    }

    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        if facts.connections > self.in_all {
            return Verdict::defer(
                "all-connections",
                421,
                (3, 2),
                "Too many connections here, try again later",
            );
        }
        if facts.connections_of_client > self.per_client && !facts.client.trusted {
            return Verdict::defer(
                "client-connections",
                421,
                (7, 0),
                "Too many connections from your address, try again later",
            );
        }
        Verdict::Accept
    }
}

#[cfg(test)]
mod tests {
    use super::super::Client;
    use super::*;
    use crate::config::Role;

    fn verdict(connections: u32, connections_of_client: u32, trusted: bool) -> Verdict {
        let limits = Limits {
            connections: 10,
            connections_per_client: 2,
            ..Limits::default()
        };
        Connections::new(&limits).connect(&ConnectFacts {
            client: &Client::new("192.0.2.1".parse().unwrap(), Role::Mx, trusted),
            connections,
            connections_of_client,
        })
    }

    fn text(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Defer(refusal) => refusal.reply.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        assert_eq!(verdict(10, 2, false), Verdict::Accept);
    }

    #[test]
    fn beyond_them_clients_are_asked_to_come_back() {
        assert!(text(&verdict(11, 1, false)).starts_with("421 4.3.2"));
        assert!(text(&verdict(3, 3, false)).starts_with("421 4.7.0"));
    }

    #[test]
    fn trusted_clients_are_bounded_only_in_all() {
        assert_eq!(verdict(3, 3, true), Verdict::Accept);
        assert!(text(&verdict(11, 3, true)).starts_with("421 4.3.2"));
    }
}
