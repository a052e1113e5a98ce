//! The header section: what is read from it and what is written above it.
//!
//! Lives here: one bounded pass over the header section ([`HeaderScan`]), the trace line that
//! RFC 5321 section 4.4 asks for ([`received`]), and the fields that a submission server
//! completes ([`Completion`]). The content itself is never changed: fields are only added in
//! front of it.

mod date;
mod received;
mod scan;

pub(crate) use received::{Protocol, Received, received};
pub(crate) use scan::{HeaderScan, Headers};

use std::fmt::Write as _;
use std::time::SystemTime;

use postrider_protocol::QueueId;

/// Octets that [`complete`] writes besides the host name.
const COMPLETION: usize = 128;

/// The most that [`complete`] writes for a host of this name.
#[must_use]
pub(crate) fn completion_room(hostname: &str) -> usize {
    COMPLETION + hostname.len()
}

/// Writes the Date and Message-ID fields that a submitted message lacks (RFC 6409 sections 8.2
/// and 8.3). Returns the Message-ID that it made, without angle brackets.
pub(crate) fn complete(
    headers: &Headers,
    id: QueueId,
    hostname: &str,
    now: SystemTime,
    out: &mut String,
) -> Option<String> {
    if !headers.has_date {
        out.push_str("Date: ");
        date::push(now, out);
        out.push_str("\r\n");
    }
    if headers.has_message_id {
        return None;
    }
    let message_id = format!("{id}@{hostname}");
    // Writing to a String cannot fail.
    let _infallible = write!(out, "Message-ID: <{message_id}>\r\n");
    Some(message_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(content: &str) -> (String, Option<String>) {
        let mut scan = HeaderScan::default();
        let headers = scan.finish(content.as_bytes());
        let mut out = String::new();
        let id = complete(
            &headers,
            QueueId::from_u128(7),
            "mx.test",
            SystemTime::UNIX_EPOCH,
            &mut out,
        );
        assert!(out.len() <= completion_room("mx.test"));
        (out, id)
    }

    #[test]
    fn what_is_missing_is_added() {
        let (added, id) = completed("Subject: x\r\n\r\nbody\r\n");
        assert_eq!(
            added,
            "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n\
             Message-ID: <00000000000000000000000007@mx.test>\r\n"
        );
        assert_eq!(id.as_deref(), Some("00000000000000000000000007@mx.test"));
    }

    #[test]
    fn what_is_there_stays_alone() {
        let (added, id) =
            completed("date: yesterday\r\nMESSAGE-ID: <a@b>\r\nSubject: x\r\n\r\nbody\r\n");
        assert_eq!(added, "");
        assert_eq!(id, None);
    }
}
