//! Stage `sender`: an address that nobody could answer to is no sender.

use super::{MailFacts, Stage, Verdict};
use crate::config::{ForeignSender, StageName};

/// Refuses a sender whose domain could never be resolved, and looks after accounts that send in
/// somebody else's name. The null reverse-path is always welcome (RFC 5321 section 4.5.5).
pub(super) struct Sender {
    foreign: ForeignSender,
}

impl Sender {
    pub(super) fn new(foreign: ForeignSender) -> Self {
        Self { foreign }
    }
}

impl Stage for Sender {
    fn name(&self) -> StageName {
        StageName::Sender
    }

    fn mail(&self, facts: &MailFacts<'_>) -> Verdict {
        let Some(sender) = facts.reverse_path else {
            return Verdict::Accept;
        };
        // RFC 5321 section 2.3.5: only resolvable, fully-qualified names. A trusted machine may
        // be one of our own that knows no better.
        let unqualified = !sender.domain.contains('.') && !sender.domain.starts_with('[');
        if unqualified && !facts.session.client.trusted && !is_reserved(sender.domain) {
            return Verdict::reject(
                "unqualified-sender",
                550,
                (1, 8),
                "Sender's domain is not fully qualified",
            );
        }
        match facts.session.account {
            Some(account) if !sender.is(account) => match self.foreign {
                ForeignSender::Annotate => Verdict::Annotate(
                    format!("sent by {account} in the name of another address").into(),
                ),
                ForeignSender::Reject => Verdict::reject(
                    "foreign-sender",
                    550,
                    (7, 1),
                    "This account may not send in the name of that address",
                ),
            },
            _ => Verdict::Accept,
        }
    }
}

/// Names without a dot that RFC 6761 sets aside for use on one's own machine.
fn is_reserved(domain: &str) -> bool {
    ["localhost", "test"]
        .iter()
        .any(|name| domain.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::super::{Address, Client, SessionFacts};
    use super::*;
    use crate::config::Role;

    fn verdict(sender: &str, account: Option<&str>, foreign: ForeignSender) -> Verdict {
        Sender::new(foreign).mail(&MailFacts {
            session: SessionFacts {
                client: &Client::new("192.0.2.1".parse().unwrap(), Role::Mx, false),
                hello: "client.example",
                encrypted: false,
                account,
            },
            reverse_path: (!sender.is_empty()).then(|| Address::parse(sender)),
        })
    }

    fn code(verdict: Verdict) -> String {
        match verdict {
            Verdict::Reject(refusal) => refusal.reply.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn bounces_and_real_addresses_pass() {
        for sender in ["", "a@example.org", "a@[192.0.2.1]", "a@localhost"] {
            assert_eq!(
                verdict(sender, None, ForeignSender::Reject),
                Verdict::Accept
            );
        }
    }

    #[test]
    fn unqualified_domains_do_not() {
        let reply = code(verdict("a@desktop", None, ForeignSender::Annotate));
        assert!(reply.starts_with("550 5.1.8"), "{reply}");
    }

    #[test]
    fn accounts_send_in_their_own_name() {
        let bob = Some("bob@here.test");
        for foreign in [ForeignSender::Annotate, ForeignSender::Reject] {
            assert_eq!(verdict("Bob@Here.test", bob, foreign), Verdict::Accept);
            assert_eq!(verdict("", bob, foreign), Verdict::Accept);
        }
        let reply = code(verdict("alice@here.test", bob, ForeignSender::Reject));
        assert!(reply.starts_with("550 5.7.1"), "{reply}");
        assert!(matches!(
            verdict("alice@here.test", bob, ForeignSender::Annotate),
            Verdict::Annotate(_)
        ));
    }
}
