//! Stage `loops`: a message that runs in a circle is stopped.

use super::{ContentFacts, Stage, Verdict};
use crate::config::StageName;

/// Counts the servers that a message has passed (RFC 5321 section 6.3).
pub(super) struct Loops {
    most: u32,
}

impl Loops {
    pub(super) fn new(most: u32) -> Self {
        Self { most }
    }
}

impl Stage for Loops {
    fn name(&self) -> StageName {
        StageName::Loops
    }

    fn content(&self, facts: &ContentFacts<'_>) -> Verdict {
        if facts.hops > self.most {
            return Verdict::reject(
                "loop",
                554,
                (4, 6),
                "Too many Received lines, this message runs in a circle",
            );
        }
        Verdict::Accept
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Client, SessionFacts};
    use super::*;
    use crate::config::Role;

    fn verdict(hops: u32) -> Verdict {
        Loops::new(100).content(&ContentFacts {
            session: SessionFacts {
                client: &Client::new("192.0.2.1".parse().unwrap(), Role::Mx, false),
                hello: "client.example",
                encrypted: false,
                account: None,
            },
            hops,
        })
    }

    #[test]
    fn a_hundred_hops_are_a_long_way_and_more_are_a_circle() {
        assert_eq!(verdict(0), Verdict::Accept);
        assert_eq!(verdict(100), Verdict::Accept);
        match verdict(101) {
            Verdict::Reject(refusal) => assert!(refusal.reply.to_string().starts_with("554 5.4.6")),
            other => panic!("{other:?}"),
        }
    }
}
