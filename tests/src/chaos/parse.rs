//! What sinks and sources read out of lines and contents.

use memchr::memmem;

use super::history::Report;

/// Characters of a queue id.
const ID: usize = 26;

/// The address between the angle brackets of a MAIL or RCPT command.
#[must_use]
pub fn path(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once('<')?;
    Some(rest.split_once('>')?.0)
}

/// The first queue id among the words of a text.
#[must_use]
pub fn id_in(text: &str) -> Option<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| {
            let digits = word
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
            word.len() == ID && word.starts_with('0') && digits
        })
        .map(str::to_owned)
}

fn header(content: &[u8]) -> Option<&str> {
    let end = memmem::find(content, b"\r\n\r\n")?;
    std::str::from_utf8(&content[..end]).ok()
}

/// The id in the topmost Received field, or, in what was made here, in the Message-ID.
#[must_use]
pub fn queue_id(content: &[u8]) -> Option<String> {
    let header = header(content)?;
    for name in ["Received:", "Message-ID:"] {
        if let Some(at) = header.find(name) {
            return id_in(&header[at..]);
        }
    }
    None
}

/// What a DSN says; `None` for any other message.
#[must_use]
pub fn report(content: &[u8]) -> Option<Report> {
    if !header(content)?.contains("report-type=delivery-status") {
        return None;
    }
    let text = String::from_utf8_lossy(content);
    let mut report = Report::default();
    let mut recipient = String::new();
    for line in text.lines() {
        if let Some(id) = line.strip_prefix("X-Postrider-Queue-Id: ") {
            report.about = id.trim().to_owned();
        } else if let Some((_, address)) = line
            .strip_prefix("Final-Recipient: ")
            .and_then(|value| value.split_once(';'))
        {
            recipient = address.trim().to_owned();
        } else if line.trim() == "Action: failed" {
            report.failed.push(recipient.clone());
        }
    }
    Some(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_paths_are_found() {
        assert_eq!(path("RCPT TO:<a@b.test> NOTIFY=NEVER"), Some("a@b.test"));
        assert_eq!(path("MAIL FROM:<>"), Some(""));
        assert_eq!(
            id_in("250 2.0.0 Queued as 01j0000000e008000000000001."),
            Some("01j0000000e008000000000001".to_owned())
        );
        assert_eq!(id_in("250 2.0.0 Queued as 01j0000000e00800000000000"), None);
    }

    #[test]
    fn a_dsn_is_read() {
        let content = b"From: x\r\nMessage-ID: <01j0000000e008000000000002@a.test>\r\n\
            Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\n\
            X-Postrider-Queue-Id: 01j0000000e008000000000001\r\n\r\n\
            Final-Recipient: rfc822; a@b.test\r\nAction: failed\r\n\r\n\
            Final-Recipient: rfc822; c@b.test\r\nAction: delayed\r\n\r\n";
        assert_eq!(
            report(content),
            Some(Report {
                about: "01j0000000e008000000000001".to_owned(),
                failed: vec!["a@b.test".to_owned()],
            })
        );
        assert_eq!(
            queue_id(content).as_deref(),
            Some("01j0000000e008000000000002")
        );
        assert_eq!(report(b"Subject: x\r\n\r\nAction: failed\r\n"), None);
    }
}
