//! Stage `relay`: this server is nobody's open relay.

use super::{RcptFacts, Stage, Verdict};
use crate::config::StageName;

/// Takes mail for other servers' domains only from those who have authenticated or come from a
/// trusted network.
pub(super) struct Relay;

impl Stage for Relay {
    fn name(&self) -> StageName {
        StageName::Relay
    }

    fn rcpt(&self, facts: &RcptFacts<'_>) -> Verdict {
        if facts.local || facts.session.account.is_some() || facts.session.client.trusted {
            return Verdict::Accept;
        }
        Verdict::reject("relay", 550, (7, 1), "Relaying is not permitted")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Address, Client, SessionFacts};
    use super::*;
    use crate::config::Role;

    fn verdict(local: bool, account: Option<&str>, trusted: bool) -> Verdict {
        Relay.rcpt(&RcptFacts {
            session: SessionFacts {
                client: &Client::new("192.0.2.1".parse().unwrap(), Role::Mx, trusted),
                hello: "client.example",
                encrypted: false,
                account,
            },
            reverse_path: None,
            recipient: Address::parse("a@example.org"),
            local,
            existence: None,
        })
    }

    #[test]
    fn strangers_may_write_to_us_only() {
        assert_eq!(verdict(true, None, false), Verdict::Accept);
        match verdict(false, None, false) {
            Verdict::Reject(refusal) => {
                assert_eq!(
                    refusal.reply.to_string(),
                    "550 5.7.1 Relaying is not permitted"
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ours_may_write_to_everybody() {
        assert_eq!(
            verdict(false, Some("bob@here.test"), false),
            Verdict::Accept
        );
        assert_eq!(verdict(false, None, true), Verdict::Accept);
    }
}
