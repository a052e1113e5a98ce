//! Who takes part in the demo, from left to right as the message travels.

use crate::diagram::Lane;

/// Bob's mail program.
pub(super) const BOB: usize = 0;
/// Bob's server: where it takes mail in.
pub(super) const BOB_EDGE: usize = 1;
/// Bob's server: what was accepted and has not ended.
pub(super) const BOB_QUEUE: usize = 2;
/// Bob's server: what carries it on.
pub(super) const BOB_DELIVERY: usize = 3;
/// The name server.
pub(super) const DNS: usize = 4;
/// Alice's server: where it takes mail in.
pub(super) const ALICE_EDGE: usize = 5;
/// Alice's server: what was accepted and has not ended.
pub(super) const ALICE_QUEUE: usize = 6;
/// Alice's server: what carries it on.
pub(super) const ALICE_DELIVERY: usize = 7;
/// Alice's server: where it stays until it is fetched.
pub(super) const ALICE_MAILBOX: usize = 8;
/// Alice's mail program.
pub(super) const ALICE: usize = 9;

/// Everyone, with what the map says of them.
#[must_use]
pub(super) fn all(submission: &str, dns: &str, mx: &str, pop3: &str) -> Vec<Lane> {
    let lane = |name: &str, about: &str, group| Lane {
        name: name.to_owned(),
        about: about.to_owned(),
        group,
    };
    vec![
        lane("Bob's mail program", "", 0),
        lane("Bob's edge", &format!("submission {submission}"), 1),
        lane("Bob's queue", "on disk", 1),
        lane("Bob's delivery", "to other servers", 1),
        lane("DNS", &format!("UDP and TCP {dns}"), 2),
        lane("Alice's edge", &format!("SMTP {mx}"), 3),
        lane("Alice's queue", "on disk", 3),
        lane("Alice's delivery", "into mailboxes", 3),
        lane("Alice's mailbox", &format!("POP3 {pop3}"), 3),
        lane("Alice's mail program", "", 4),
    ]
}
