//! The part of a DSN that people read.

use postrider_protocol::queue_v1::RecipientOutcome;
use postrider_protocol::queue_v1::leased_delivery::Disposition;

use super::Action;
use super::field::{date, one_line};
use super::report::Report;
use super::returned::Original;
use crate::outcome;

impl Report<'_> {
    /// What a person reads first.
    pub(super) fn text(&self) -> String {
        let delivery = self.about.delivery;
        let mut lines = vec![format!(
            "This is the mail system at {}.",
            self.notifier.hostname
        )];
        let delayed = format!(
            "Your message could not yet be delivered to the following recipients. It is tried again \
             until {}. This is only a warning: you need not send it again.",
            date(delivery.expires_us)
        );
        for (action, news) in [
            (Action::Failed, self.bad_news()),
            (Action::Delayed, delayed.as_str()),
            (Action::Delivered, "Your message is in the mailbox of:"),
            (
                Action::Relayed,
                "Your message was handed on to the mail server of the following recipients. \
                 That server sends no confirmations, so you will not hear more:",
            ),
        ] {
            let mut concerned = self
                .due
                .iter()
                .filter(|due| due.action == action)
                .peekable();
            if concerned.peek().is_none() {
                continue;
            }
            lines.push(String::new());
            lines.extend(wrap(news));
            for due in concerned {
                lines.push(String::new());
                lines.push(format!("    {}", one_line(&due.recipient.address, true)));
                lines.extend(self.because(due.outcome, action));
            }
        }
        lines.push(String::new());
        let failed = self.due.iter().any(|due| due.action == Action::Failed);
        if failed {
            let what = if self.due.iter().any(|due| due.action == Action::Delayed) {
                "What could not be delivered"
            } else {
                "It"
            };
            lines.extend(wrap(&format!(
                "{what} will not be tried again. If the reason above does not help you, \
                 the recipients' own mail service, or the people below, may."
            )));
            lines.push(String::new());
        }
        if matches!(self.original, Original::Headers(_)) {
            lines.push("The header section of your message is attached.".to_owned());
        } else if matches!(self.original, Original::Whole(_)) {
            lines.push("Your message is attached.".to_owned());
        }
        lines.extend(wrap(&format!(
            "Questions go to {}. Please name the message's queue id:",
            self.notifier.contact
        )));
        lines.push(String::new());
        lines.push(format!("    Queue id:    {}", delivery.queue_id));
        lines.push(format!("    Accepted:    {}", date(delivery.accepted_us)));
        if !delivery.message_id.is_empty() {
            lines.push(format!(
                "    Message-ID:  <{}>",
                one_line(&delivery.message_id, true)
            ));
        }
        lines.push(String::new());
        lines.join("\r\n")
    }

    fn bad_news(&self) -> &'static str {
        match self.about.delivery.disposition() {
            Disposition::Expired => {
                "Your message could not be delivered to the following recipients, \
                 though it was tried again and again for as long as it is kept:"
            }
            Disposition::Bounce => {
                "The operators of this mail system have ended the delivery of your message to:"
            }
            Disposition::Attempt | Disposition::Unspecified => {
                "Your message could not be delivered to:"
            }
        }
    }

    /// Who said what.
    fn because(&self, outcome: &RecipientOutcome, action: Action) -> Vec<String> {
        let words = one_line(&outcome.reply_text, true);
        let attempt = self.about.attempt;
        if !outcome.from_remote {
            return match action {
                Action::Failed | Action::Delayed => wrap_at(&words, "        "),
                Action::Delivered | Action::Relayed => Vec::new(),
            };
        }
        let server = match (
            attempt.remote_host.as_str(),
            attempt.remote_address.as_str(),
        ) {
            ("", _) => "The mail server said:".to_owned(),
            (host, "") => format!("The mail server {host} said:"),
            (host, address) => format!("The mail server {host} [{address}] said:"),
        };
        let mut lines = vec![format!("        {server}")];
        lines.extend(wrap_at(
            &one_line(&outcome::line(outcome), true),
            "            ",
        ));
        lines
    }
}

/// Lines of at most 72 characters.
fn wrap(text: &str) -> Vec<String> {
    wrap_at(text, "")
}

fn wrap_at(text: &str, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        // A word without end would break the line limit of mail.
        for piece in pieces(word) {
            if !line.is_empty() && indent.len() + line.len() + 1 + piece.len() > 72 {
                lines.push(format!("{indent}{line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(piece);
        }
    }
    lines.push(format!("{indent}{line}"));
    lines
}

fn pieces(mut word: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while word.len() > 500 {
        let mut at = 500;
        while !word.is_char_boundary(at) {
            at -= 1;
        }
        pieces.push(&word[..at]);
        word = &word[at..];
    }
    pieces.push(word);
    pieces
}
