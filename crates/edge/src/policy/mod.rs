//! The policy chain: who may do what.
//!
//! A stage looks at facts and gives a verdict, in a function without I/O, so that a decision can
//! be tested from plain facts and replayed from a log line. Facts that cost something to learn
//! (does this recipient exist?) are gathered by the chain before the first stage that says it
//! needs them, so a session that is refused earlier costs nobody a lookup.
//!
//! A new stage is one file here, one name in the config's `StageName`, one line in [`stage`].

mod connections;
mod facts;
mod loops;
mod recipients;
mod relay;
mod sender;

use std::borrow::Cow;

use postrider_smtp::reply::Reply;
use postrider_smtp::status::EnhancedStatus;

use crate::config::{EdgeConfig, StageName};
use crate::metrics;

pub use facts::{
    Address, Client, ConnectFacts, ContentFacts, Existence, MailFacts, RcptFacts, SessionFacts,
};

/// What a stage says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Accept,
    /// 5yz: not in this form, ever.
    Reject(Refusal),
    /// 4yz: not now.
    Defer(Refusal),
    /// Nothing against it, but worth a note in the message's journey.
    Annotate(Cow<'static, str>),
}

impl Verdict {
    /// A permanent refusal. The reason is a word for metrics and logs.
    fn reject(
        reason: &'static str,
        code: u16,
        status: (u16, u16),
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        let status = EnhancedStatus::permanent(status.0, status.1);
        Self::Reject(Refusal {
            reason,
            reply: Reply::new(code, status, text),
        })
    }

    /// A temporary refusal. The reason is a word for metrics and logs.
    fn defer(
        reason: &'static str,
        code: u16,
        status: (u16, u16),
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        let status = EnhancedStatus::transient(status.0, status.1);
        Self::Defer(Refusal {
            reason,
            reply: Reply::new(code, status, text),
        })
    }
}

/// A reply that says no, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of few words, for metrics.
    pub reason: &'static str,
    /// What the client is told.
    pub reply: Reply,
}

/// One stage. Each method has a default that accepts: a stage judges only where it has a say.
pub trait Stage: Send + Sync {
    /// Which stage it is.
    fn name(&self) -> StageName;

    /// Whether [`RcptFacts::existence`] must be known before [`Stage::rcpt`] is asked.
    fn needs_existence(&self) -> bool {
        false
    }

    /// A client has connected; nothing was said yet. Must not need anything slow.
    fn connect(&self, _facts: &ConnectFacts<'_>) -> Verdict {
        Verdict::Accept
    }

    /// A client has said EHLO or HELO.
    fn hello(&self, _facts: &SessionFacts<'_>) -> Verdict {
        Verdict::Accept
    }

    /// A client begins a transaction.
    fn mail(&self, _facts: &MailFacts<'_>) -> Verdict {
        Verdict::Accept
    }

    /// A client names a recipient.
    fn rcpt(&self, _facts: &RcptFacts<'_>) -> Verdict {
        Verdict::Accept
    }

    /// The header section of a message is known; the rest may still be on its way.
    fn content(&self, _facts: &ContentFacts<'_>) -> Verdict {
        Verdict::Accept
    }
}

/// Makes one stage from the config.
fn stage(name: StageName, config: &EdgeConfig) -> Box<dyn Stage> {
    match name {
        StageName::Connections => Box::new(connections::Connections::new(&config.limits)),
        StageName::Sender => Box::new(sender::Sender::new(config.foreign_sender)),
        StageName::Relay => Box::new(relay::Relay),
        StageName::Recipients => Box::new(recipients::Recipients),
        StageName::Loops => Box::new(loops::Loops::new(config.limits.hops)),
    }
}

/// The stages in the config's order.
pub struct Chain {
    stages: Vec<Box<dyn Stage>>,
}

/// What the chain says: the first refusal, or else every annotation.
pub type Decision = Result<Vec<Cow<'static, str>>, Refusal>;

impl Chain {
    /// The chain that the config asks for.
    #[must_use]
    pub fn new(config: &EdgeConfig) -> Self {
        Self {
            stages: config
                .policy
                .iter()
                .map(|name| stage(*name, config))
                .collect(),
        }
    }

    /// Asks at connect.
    ///
    /// # Errors
    /// The refusal of the first stage that refuses.
    pub fn connect(&self, facts: &ConnectFacts<'_>) -> Decision {
        self.ask(|stage| stage.connect(facts))
    }

    /// Asks at EHLO.
    ///
    /// # Errors
    /// The refusal of the first stage that refuses.
    pub fn hello(&self, facts: &SessionFacts<'_>) -> Decision {
        self.ask(|stage| stage.hello(facts))
    }

    /// Asks at MAIL.
    ///
    /// # Errors
    /// The refusal of the first stage that refuses.
    pub fn mail(&self, facts: &MailFacts<'_>) -> Decision {
        self.ask(|stage| stage.mail(facts))
    }

    /// Asks at RCPT. `lookup` learns whether the recipient exists, and is called at most once.
    ///
    /// # Errors
    /// The refusal of the first stage that refuses.
    pub async fn rcpt(
        &self,
        mut facts: RcptFacts<'_>,
        lookup: impl AsyncFnOnce() -> Existence,
    ) -> Decision {
        let mut notes = Vec::new();
        let mut lookup = Some(lookup);
        for stage in &self.stages {
            if stage.needs_existence()
                && facts.local
                && let Some(lookup) = lookup.take()
            {
                facts.existence = Some(lookup().await);
            }
            note(stage.as_ref(), stage.rcpt(&facts), &mut notes)?;
        }
        Ok(notes)
    }

    /// Asks about a message's content.
    ///
    /// # Errors
    /// The refusal of the first stage that refuses.
    pub fn content(&self, facts: &ContentFacts<'_>) -> Decision {
        self.ask(|stage| stage.content(facts))
    }

    fn ask(&self, verdict: impl Fn(&dyn Stage) -> Verdict) -> Decision {
        let mut notes = Vec::new();
        for stage in &self.stages {
            note(stage.as_ref(), verdict(stage.as_ref()), &mut notes)?;
        }
        Ok(notes)
    }
}

/// Counts a refusal, keeps an annotation.
fn note(
    stage: &dyn Stage,
    verdict: Verdict,
    notes: &mut Vec<Cow<'static, str>>,
) -> Result<(), Refusal> {
    match verdict {
        Verdict::Accept => Ok(()),
        Verdict::Annotate(text) => {
            notes.push(text);
            Ok(())
        }
        Verdict::Reject(refusal) | Verdict::Defer(refusal) => {
            metrics::refused(stage.name().as_str(), refusal.reason);
            Err(refusal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    fn facts<'a>(client: &'a Client, recipient: Address<'a>, local: bool) -> RcptFacts<'a> {
        RcptFacts {
            session: SessionFacts {
                client,
                hello: "client.example",
                encrypted: false,
                account: None,
            },
            reverse_path: Some(Address::parse("a@elsewhere.example")),
            recipient,
            local,
            existence: None,
        }
    }

    #[tokio::test]
    async fn the_first_refusal_decides_and_lookups_are_made_only_where_needed() {
        let chain = Chain::new(&EdgeConfig::default());
        let client = Client::new("192.0.2.1".parse().unwrap(), Role::Mx, false);

        let elsewhere = Address::parse("b@elsewhere.example");
        let refusal = chain
            .rcpt(facts(&client, elsewhere, false), async || {
                panic!("relay refuses before the directory is asked")
            })
            .await
            .unwrap_err();
        assert_eq!(refusal.reply.code(), 550);
        assert_eq!(refusal.reason, "relay");

        let here = Address::parse("nobody@here.test");
        let refusal = chain
            .rcpt(facts(&client, here, true), async || Existence::NoSuchUser)
            .await
            .unwrap_err();
        assert_eq!(refusal.reply.to_string(), "550 5.1.1 No such user here");

        let accepted = chain
            .rcpt(facts(&client, here, true), async || Existence::Exists)
            .await;
        assert_eq!(accepted, Ok(vec![]));
    }

    #[tokio::test]
    async fn a_stage_that_is_left_out_does_not_judge() {
        let chain = Chain::new(&EdgeConfig {
            policy: vec![StageName::Relay],
            ..EdgeConfig::default()
        });
        let client = Client::new("192.0.2.1".parse().unwrap(), Role::Mx, false);
        let here = Address::parse("nobody@here.test");
        let accepted = chain
            .rcpt(facts(&client, here, true), async || {
                panic!("nobody needs to know")
            })
            .await;
        assert_eq!(accepted, Ok(vec![]));
    }
}
