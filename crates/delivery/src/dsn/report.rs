//! A DSN as text: multipart/report (RFC 3462) of words for people, fields for programs
//! (RFC 3464, RFC 6533) and the original, whole or its header section.

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{OutcomeKind, RecipientOutcome};
use postrider_smtp::datetime::DateTime;

use super::field::{date, field, from_xtext, one_line, typed_address};
use super::returned::Original;
use super::{About, Action, Due, Notifier};
use crate::outcome;

/// A DSN before it is written.
pub(super) struct Report<'a> {
    pub(super) notifier: &'a Notifier,
    pub(super) id: QueueId,
    pub(super) about: About<'a>,
    pub(super) due: &'a [Due<'a>],
    pub(super) original: &'a Original,
}

impl Report<'_> {
    /// Without the angle brackets.
    pub(super) fn message_id(&self) -> String {
        format!("{}@{}", self.id, self.notifier.hostname)
    }

    /// The message: header section, three parts.
    pub(super) fn write(&self) -> Vec<u8> {
        let boundary = format!("=_{}", self.id);
        let text = self.text();
        let original: &[u8] = match self.original {
            Original::Whole(content) | Original::Headers(content) => content,
            Original::Missing => b"",
        };
        let eight_bit = !text.is_ascii() || !original.is_ascii();
        let encoding = |ascii: bool| if ascii { "7bit" } else { "8bit" };

        let mut out = String::with_capacity(4096 + original.len());
        self.header(&mut out, &boundary, encoding(!eight_bit));
        let part = |out: &mut String, kind: &str, ascii: bool| {
            out.push_str("--");
            out.push_str(&boundary);
            out.push_str("\r\n");
            field(out, "Content-Type", kind);
            field(out, "Content-Transfer-Encoding", encoding(ascii));
            out.push_str("\r\n");
        };
        part(&mut out, "text/plain; charset=utf-8", text.is_ascii());
        out.push_str(&text);
        out.push_str("\r\n");

        let international = self.international();
        let status = self.status();
        let kind = if international {
            "message/global-delivery-status"
        } else {
            "message/delivery-status"
        };
        part(&mut out, kind, status.is_ascii());
        out.push_str(&status);
        out.push_str("\r\n");

        let kind = match (self.original, international) {
            (Original::Whole(_), false) => Some("message/rfc822"),
            (Original::Whole(_), true) => Some("message/global"),
            (Original::Headers(_), false) => Some("text/rfc822-headers"),
            (Original::Headers(_), true) => Some("message/global-headers"),
            (Original::Missing, _) => None,
        };
        if let Some(kind) = kind {
            part(&mut out, kind, original.is_ascii());
        }
        let mut out = out.into_bytes();
        if kind.is_some() {
            out.extend_from_slice(original);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    /// Whether the DSN itself goes out with SMTPUTF8, because its reader's address needs it.
    fn international(&self) -> bool {
        !self.about.envelope.reverse_path.is_ascii()
    }

    fn header(&self, out: &mut String, boundary: &str, encoding: &str) {
        let notifier = self.notifier;
        field(
            out,
            "From",
            &format!("Mail delivery system <{}>", notifier.from),
        );
        let to = one_line(&self.about.envelope.reverse_path, self.international());
        field(out, "To", &format!("<{to}>"));
        field(out, "Subject", self.subject());
        field(out, "Date", &date(self.about.ended_us));
        field(out, "Message-ID", &format!("<{}>", self.message_id()));
        let message_id = &self.about.delivery.message_id;
        if !message_id.is_empty() {
            let reference = format!("<{}>", one_line(message_id, self.international()));
            field(out, "In-Reply-To", &reference);
            field(out, "References", &reference);
        }
        // RFC 3834 section 5: vacation programs and the like leave it alone.
        field(out, "Auto-Submitted", "auto-replied");
        field(out, "MIME-Version", "1.0");
        field(
            out,
            "Content-Type",
            &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""),
        );
        field(out, "Content-Transfer-Encoding", encoding);
        out.push_str("\r\n");
    }

    fn subject(&self) -> &'static str {
        let all = |action| self.due.iter().all(|due| due.action == action);
        let any = |action| self.due.iter().any(|due| due.action == action);
        if all(Action::Failed) {
            "Your message could not be delivered"
        } else if any(Action::Failed) {
            "Your message could not be delivered to everybody"
        } else if all(Action::Delayed) {
            "Your message is delayed"
        } else if any(Action::Delayed) {
            "Your message is delayed for some"
        } else {
            "Your message has been delivered"
        }
    }

    /// The fields for programs: one group for the message, one a recipient.
    fn status(&self) -> String {
        let international = self.international();
        let about = self.about;
        let mut out = String::new();
        // Order as in RFC 3464 section 2.2.
        if !about.envelope.dsn_envid.is_empty() {
            let envid = from_xtext(&about.envelope.dsn_envid);
            field(
                &mut out,
                "Original-Envelope-Id",
                &one_line(&envid, international),
            );
        }
        field(
            &mut out,
            "Reporting-MTA",
            &format!("dns; {}", self.notifier.hostname),
        );
        field(&mut out, "Arrival-Date", &date(about.delivery.accepted_us));
        if about.delivery.release_us > 0 {
            // RFC 4865 section 6.
            let moment = DateTime(about.delivery.release_us / 1_000_000);
            field(
                &mut out,
                "Future-Release-Request",
                &format!("until;{moment}"),
            );
        }
        field(&mut out, "X-Postrider-Queue-Id", &about.delivery.queue_id);
        for due in self.due {
            out.push_str("\r\n");
            self.recipient_status(&mut out, due);
        }
        out
    }

    fn recipient_status(&self, out: &mut String, due: &Due<'_>) {
        let international = self.international();
        let outcome = due.outcome;
        if let Some((kind, address)) = due.recipient.dsn_orcpt.split_once(';') {
            let address = match kind.trim() {
                "rfc822" | "RFC822" => typed_address(&from_xtext(address), international),
                kind => format!(
                    "{}; {}",
                    one_line(kind, false),
                    one_line(&from_xtext(address), international)
                ),
            };
            field(out, "Original-Recipient", &address);
        }
        let address = typed_address(&due.recipient.address, international);
        field(out, "Final-Recipient", &address);
        let action = match due.action {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
        };
        field(out, "Action", action);
        field(out, "Status", &self.status_code(outcome));
        let attempt = self.about.attempt;
        if outcome.from_remote {
            if !attempt.remote_host.is_empty() {
                let host = one_line(&attempt.remote_host, false);
                field(out, "Remote-MTA", &format!("dns; {host}"));
            }
            let said = one_line(&outcome::line(outcome), international);
            field(out, "Diagnostic-Code", &format!("smtp; {said}"));
        } else if matches!(due.action, Action::Failed | Action::Delayed) {
            let said = one_line(&outcome.reply_text, international);
            field(out, "Diagnostic-Code", &format!("x-postrider; {said}"));
        }
        field(out, "Last-Attempt-Date", &date(self.about.ended_us));
        if due.action == Action::Delayed {
            let until = self.about.delivery.expires_us;
            field(out, "Will-Retry-Until", &date(until));
        }
    }

    /// The field is obligatory and has a grammar, which a remote's status may break.
    fn status_code(&self, outcome: &RecipientOutcome) -> String {
        let class = match outcome.kind() {
            OutcomeKind::Delivered => '2',
            OutcomeKind::Deferred | OutcomeKind::Unknown => '4',
            OutcomeKind::Failed | OutcomeKind::Unspecified => '5',
        };
        let status = &outcome.enhanced_status;
        let mut parts = status.split('.');
        let numbers = parts.by_ref().take(3).all(|part| {
            !part.is_empty() && part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit())
        });
        if numbers && status.matches('.').count() == 2 && status.starts_with(class) {
            status.clone()
        } else {
            format!("{class}.0.0")
        }
    }
}
