//! What becomes of a recipient in an attempt, and the words for what no server said.

use postrider_protocol::queue_v1::{OutcomeKind, RecipientOutcome};

/// A verdict on a recipient: kind, reply, enhanced status (RFC 3463), and whose words they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) kind: OutcomeKind,
    pub(crate) code: u16,
    pub(crate) status: String,
    pub(crate) text: String,
    pub(crate) from_remote: bool,
}

impl Verdict {
    /// Of a server's reply: 2yz delivered, 5yz failed, anything else deferred. A reply that is
    /// no SMTP reply at all (or a 3yz where none belongs) says nothing for good.
    pub(crate) fn of_reply(code: u16, status: Option<String>, text: String) -> Self {
        let kind = match code {
            200..=299 => OutcomeKind::Delivered,
            500..=599 => OutcomeKind::Failed,
            _ => OutcomeKind::Deferred,
        };
        Self {
            kind,
            code,
            status: status.unwrap_or_else(|| generic_status(kind).to_owned()),
            text,
            from_remote: true,
        }
    }

    /// Our own word that it is tried again.
    pub(crate) fn deferred(status: &str, text: impl Into<String>) -> Self {
        Self::own(OutcomeKind::Deferred, 451, status, text.into())
    }

    /// Our own word that it ends here.
    pub(crate) fn failed(code: u16, status: &str, text: impl Into<String>) -> Self {
        Self::own(OutcomeKind::Failed, code, status, text.into())
    }

    /// Our own word that it has arrived.
    pub(crate) fn delivered(text: impl Into<String>) -> Self {
        Self::own(OutcomeKind::Delivered, 250, "2.0.0", text.into())
    }

    /// The content may have arrived whole, and nobody said so.
    pub(crate) fn unknown(text: impl Into<String>) -> Self {
        Self::own(OutcomeKind::Unknown, 451, "4.4.2", text.into())
    }

    fn own(kind: OutcomeKind, code: u16, status: &str, text: String) -> Self {
        Self {
            kind,
            code,
            status: status.to_owned(),
            text,
            from_remote: false,
        }
    }

    /// Whether trying another server may help.
    pub(crate) fn is_deferred(&self) -> bool {
        self.kind == OutcomeKind::Deferred
    }

    /// The verdict as it is reported.
    pub(crate) fn on(self, address: &str) -> RecipientOutcome {
        RecipientOutcome {
            address: address.to_owned(),
            kind: self.kind.into(),
            reply_code: u32::from(self.code),
            enhanced_status: self.status,
            reply_text: self.text,
            from_remote: self.from_remote,
        }
    }
}

/// What the replies of one attempt come to at most, in octets, all recipients together: the queue takes
/// no report that is too large.
const MOST_WORDS: usize = 2 << 20;
/// Kept of one reply's text; servers have been known to write essays.
pub(crate) const MOST_TEXT: usize = 1000;

/// Shortens replies so that the report of any number of recipients is one that the queue takes.
pub(crate) fn shorten(outcomes: &mut [RecipientOutcome]) {
    let share = MOST_WORDS / outcomes.len().max(1);
    for outcome in outcomes {
        cut(&mut outcome.reply_text, share.min(MOST_TEXT));
    }
}

/// Cuts a text to so many octets, and shows that it did.
pub(crate) fn cut(text: &mut String, most: usize) {
    const MARK: char = '…';
    if text.len() > most {
        let mut at = most.saturating_sub(MARK.len_utf8());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
        text.push(MARK);
    }
}

/// "Undefined status" of a class, for replies without an enhanced one.
fn generic_status(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Delivered => "2.0.0",
        OutcomeKind::Failed => "5.0.0",
        OutcomeKind::Deferred | OutcomeKind::Unknown | OutcomeKind::Unspecified => "4.0.0",
    }
}

/// The metric label and log word of a kind.
pub(crate) fn word(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Delivered => "delivered",
        OutcomeKind::Deferred => "deferred",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Unknown => "unknown",
        OutcomeKind::Unspecified => "unspecified",
    }
}

/// An outcome in one line, as people read it: "550 5.1.1 no such user".
pub(crate) fn line(outcome: &RecipientOutcome) -> String {
    let mut line = outcome.reply_code.to_string();
    for part in [&outcome.enhanced_status, &outcome.reply_text] {
        if !part.is_empty() {
            line.push(' ');
            line.push_str(part);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_the_code_decides() {
        for (code, kind, status) in [
            (250, OutcomeKind::Delivered, "2.0.0"),
            (251, OutcomeKind::Delivered, "2.0.0"),
            (421, OutcomeKind::Deferred, "4.0.0"),
            (452, OutcomeKind::Deferred, "4.0.0"),
            (354, OutcomeKind::Deferred, "4.0.0"),
            (550, OutcomeKind::Failed, "5.0.0"),
        ] {
            let verdict = Verdict::of_reply(code, None, String::new());
            assert_eq!((verdict.kind, verdict.status.as_str()), (kind, status));
        }
        let verdict = Verdict::of_reply(550, Some("5.1.1".into()), "no such user".into());
        assert_eq!(line(&verdict.on("a@b")), "550 5.1.1 no such user");
    }

    #[test]
    fn replies_to_many_are_shortened_so_that_the_report_fits() {
        use postrider_protocol::MOST_RECIPIENTS;
        use postrider_protocol::queue_v1::Attempt;
        use prost::Message as _;
        let outcomes = |number: usize| {
            let text = "an essay about unwanted mäil ".repeat(40);
            let verdict = Verdict::of_reply(550, Some("5.7.1".into()), text);
            let mut outcomes = vec![verdict.on("alice@there.test"); number];
            shorten(&mut outcomes);
            outcomes
        };
        assert!((995..=MOST_TEXT).contains(&outcomes(1)[0].reply_text.len()));
        let many = outcomes(MOST_RECIPIENTS);
        assert!(many[0].reply_text.starts_with("an essay") && many[0].reply_text.ends_with('…'));
        let addresses: usize = many.iter().map(|one| one.address.len()).sum();
        let attempt = Attempt {
            outcomes: many,
            ..Attempt::default()
        };
        // Beside the addresses, the queue takes four MiB.
        assert!(attempt.encoded_len() - addresses < 4 << 20);
    }
}
