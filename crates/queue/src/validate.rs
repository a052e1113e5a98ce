//! What a message must be like before it is stored.

use std::collections::HashSet;

use postrider_protocol::queue_v1::{NewMessage, RecipientOutcome, body};
use postrider_protocol::{Destination, MOST_RECIPIENTS, QueueId};

/// RFC 5321 section 4.5.3.1 has 256 octets for a path; ESMTP and UTF-8 may need a little more.
const LONGEST_ADDRESS: usize = 1024;
/// RFC 5322 section 2.1.1: no line is longer, so no Message-ID is.
const LONGEST_MESSAGE_ID: usize = 998;
/// What may be said about the receipt, encoded.
const LARGEST_EVENTS: usize = 256 << 10;
/// Content within the message. More has to be stored as a body first.
pub(crate) const LARGEST_INLINE: usize = 32 << 20;

/// Checks a message.
///
/// # Errors
/// What is wrong with it, for whoever made it.
pub(crate) fn message(message: &NewMessage) -> Result<(), String> {
    message
        .queue_id
        .parse::<QueueId>()
        .map_err(|error| error.to_string())?;
    let envelope = message.envelope.as_ref().ok_or("there is no envelope")?;
    if envelope.recipients.is_empty() {
        return Err("there is no recipient".to_owned());
    }
    if envelope.recipients.len() > MOST_RECIPIENTS {
        return Err(format!("more than {MOST_RECIPIENTS} recipients"));
    }
    text("the reverse-path", &envelope.reverse_path, LONGEST_ADDRESS)?;
    let mut destinations: HashSet<&str> = HashSet::new();
    for recipient in &envelope.recipients {
        text("a recipient", &recipient.address, LONGEST_ADDRESS)?;
        text("a destination", &recipient.destination, LONGEST_ADDRESS)?;
        text("an ORCPT", &recipient.dsn_orcpt, LONGEST_ADDRESS)?;
        if recipient.address.is_empty() {
            return Err("a recipient is empty".to_owned());
        }
        if destinations.insert(&recipient.destination) {
            recipient
                .destination
                .parse::<Destination>()
                .map_err(|error| format!("{:?} is {error}", recipient.destination))?;
        }
    }
    text("the Message-ID", &message.message_id, LONGEST_MESSAGE_ID)?;
    text("the ENVID", &envelope.dsn_envid, LONGEST_ADDRESS)?;
    let events: usize = message.events.iter().map(prost::Message::encoded_len).sum();
    if events > LARGEST_EVENTS {
        return Err("too much is told about the receipt".to_owned());
    }
    content(message)
}

/// Whether outcomes can be those of one message's recipients, by how many and how long they are.
pub(crate) fn are_recipients(outcomes: &[RecipientOutcome]) -> bool {
    outcomes.len() <= MOST_RECIPIENTS
        && outcomes
            .iter()
            .all(|outcome| outcome.address.len() <= LONGEST_ADDRESS)
}

fn content(message: &NewMessage) -> Result<(), String> {
    let body = message.body.as_ref().ok_or("there is no body")?;
    match body.content.as_ref().ok_or("the body has no content")? {
        body::Content::Inline(content) if content.len() as u64 != body.size => Err(format!(
            "the body says {} octets and has {}",
            body.size,
            content.len()
        )),
        body::Content::Inline(content) if content.len() > LARGEST_INLINE => {
            Err("the content is too large to come with the message".to_owned())
        }
        body::Content::Inline(_) | body::Content::Stored(_) => Ok(()),
    }
}

/// No control characters: these texts end up in logs, in SMTP commands and on terminals.
fn text(what: &str, text: &str, longest: usize) -> Result<(), String> {
    if text.len() > longest {
        return Err(format!("{what} is longer than {longest} octets"));
    }
    match text.chars().any(char::is_control) {
        true => Err(format!("{what} has a control character in it")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use postrider_protocol::queue_v1::{Body, Envelope, Recipient};

    use super::*;

    fn good() -> NewMessage {
        NewMessage {
            queue_id: QueueId::new().to_string(),
            envelope: Some(Envelope {
                recipients: vec![Recipient {
                    address: "a@b.test".to_owned(),
                    destination: "smtp:b.test".to_owned(),
                    ..Recipient::default()
                }],
                ..Envelope::default()
            }),
            body: Some(Body {
                size: 2,
                content: Some(body::Content::Inline(Bytes::from_static(b"hi"))),
            }),
            ..NewMessage::default()
        }
    }

    #[test]
    fn each_flaw_is_told() {
        assert_eq!(message(&good()), Ok(()));
        let flawed = |change: fn(&mut NewMessage)| {
            let mut flawed = good();
            change(&mut flawed);
            message(&flawed).unwrap_err()
        };
        assert!(flawed(|m| m.queue_id = "x".to_owned()).contains("queue id"));
        assert!(flawed(|m| m.envelope = None).contains("envelope"));
        assert!(flawed(|m| m.body = None).contains("body"));
        assert!(flawed(|m| m.message_id = "a\r\nb".to_owned()).contains("control"));
        assert!(flawed(|m| m.body.as_mut().unwrap().size = 3).contains("octets"));
        assert!(flawed(|m| m.envelope.as_mut().unwrap().recipients.clear()).contains("recipient"));
        assert!(
            flawed(|m| {
                let envelope = m.envelope.as_mut().unwrap();
                envelope.recipients[0].destination = "b.test".to_owned();
            })
            .contains("not a destination")
        );
    }
}
