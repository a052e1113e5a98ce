//! From what the SMTP session says to what becomes of a recipient.

use postrider_smtp::client::{Failure, FailureKind, Outcome};
use postrider_smtp::reply::Reply;

use crate::outcome::{self, Verdict};

/// The verdict of a recipient's outcome; `None` asks for another transaction.
pub(crate) fn of_outcome(outcome: &Outcome) -> Option<Verdict> {
    Some(match outcome {
        Outcome::Delivered(reply) => of_reply(reply),
        Outcome::Deferred(failure) | Outcome::Failed(failure) => of_failure(failure),
        Outcome::Unknown(failure) => Verdict::unknown(format!(
            "The connection was lost after the message was sent and before the server said that it has it: {}",
            text(&failure.reply)
        )),
        Outcome::NextTransaction(_) => return None,
    })
}

/// The verdict of something that failed.
pub(crate) fn of_failure(failure: &Failure) -> Verdict {
    let mut verdict = of_reply(&failure.reply);
    verdict.from_remote = failure.is_from_remote();
    if !failure.reply.is_transient() && !failure.reply.is_permanent() {
        // E.g. a 250 where 354 was due: nothing was refused, and nothing was done.
        verdict = Verdict::deferred(
            "4.5.0",
            format!("Unexpected reply: {} {}", verdict.code, verdict.text),
        );
    }
    verdict
}

/// The verdict of a reply as it stands.
pub(crate) fn of_reply(reply: &Reply) -> Verdict {
    let status = reply.status().map(|status| status.to_string());
    Verdict::of_reply(reply.code(), status, text(reply))
}

/// The text in one line, of bounded length.
fn text(reply: &Reply) -> String {
    let mut text = reply.text().replace('\n', " ");
    outcome::cut(&mut text, outcome::MOST_TEXT);
    text
}

/// Whether a failure is the connection's and not the message's: another one may do better.
pub(crate) fn is_of_connection(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::ConnectionLost(_) | FailureKind::Protocol => true,
        FailureKind::Replied => failure.reply.code() == 421,
        FailureKind::NoTls
        | FailureKind::NoAuth
        | FailureKind::TooLarge
        | FailureKind::NeedsSmtpUtf8 => false,
    }
}
