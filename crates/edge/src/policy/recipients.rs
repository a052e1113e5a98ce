//! Stage `recipients`: what cannot be delivered here is refused here, while the sender listens.
//!
//! A server that accepts first and bounces later sends its bounces to whoever was forged as the
//! sender.

use super::{Existence, RcptFacts, Stage, Verdict};
use crate::config::StageName;

/// Refuses unknown recipients of this server's domains, from submission too.
pub(super) struct Recipients;

impl Stage for Recipients {
    fn name(&self) -> StageName {
        StageName::Recipients
    }

    fn needs_existence(&self) -> bool {
        true
    }

    fn rcpt(&self, facts: &RcptFacts<'_>) -> Verdict {
        match facts.existence {
            None | Some(Existence::Exists) => Verdict::Accept,
            Some(Existence::NoSuchUser) => {
                Verdict::reject("no-such-user", 550, (1, 1), "No such user here")
            }
            // The two services disagree about the domains that are here: not the sender's fault,
            // and mended by whoever runs them.
            Some(Existence::NotLocal) => Verdict::defer(
                "directory-disagrees",
                451,
                (3, 5),
                "This domain is not set up completely, try again later",
            ),
            Some(Existence::MailboxFull) => {
                Verdict::defer("mailbox-full", 452, (2, 2), "Mailbox is full")
            }
            Some(Existence::Unknown) => Verdict::defer(
                "directory-away",
                451,
                (3, 0),
                "Cannot look up this recipient now, try again later",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Address, Client, SessionFacts};
    use super::*;
    use crate::config::Role;

    fn verdict(existence: Option<Existence>) -> String {
        let verdict = Recipients.rcpt(&RcptFacts {
            session: SessionFacts {
                client: &Client::new("192.0.2.1".parse().unwrap(), Role::Mx, false),
                hello: "client.example",
                encrypted: false,
                account: None,
            },
            reverse_path: None,
            recipient: Address::parse("a@here.test"),
            local: existence.is_some(),
            existence,
        });
        match verdict {
            Verdict::Accept => "accept".to_owned(),
            Verdict::Reject(refusal) | Verdict::Defer(refusal) => refusal.reply.to_string(),
            Verdict::Annotate(text) => text.into_owned(),
        }
    }

    #[test]
    fn only_what_is_known_to_be_missing_is_refused_for_good() {
        assert_eq!(verdict(None), "accept");
        assert_eq!(verdict(Some(Existence::Exists)), "accept");
        for (existence, start) in [
            (Existence::NoSuchUser, "550 5.1.1 "),
            (Existence::NotLocal, "451 4.3.5 "),
            (Existence::MailboxFull, "452 4.2.2 "),
            (Existence::Unknown, "451 4.3.0 "),
        ] {
            let reply = verdict(Some(existence));
            assert!(reply.starts_with(start), "{existence:?}: {reply}");
        }
    }
}
