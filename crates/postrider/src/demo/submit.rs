//! Bob's mail program: hands a message in over TLS, with AUTH (RFC 6409).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{DialogueLine, dialogue_line::From};
use tokio::sync::mpsc;

use super::message;
use super::talk::Talk;

/// What Bob's mail program was set up with.
pub(super) struct Bob {
    /// The submission port.
    pub(super) server: SocketAddr,
    /// The name that the server's certificate must be valid for.
    pub(super) server_name: String,
    /// What certificates are checked against.
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// His address and account.
    pub(super) address: String,
    /// His password.
    pub(super) password: String,
}

/// What the server said yes to.
pub(super) struct Accepted {
    /// The queue id in its 250.
    pub(super) queue_id: String,
    /// TLS' version.
    pub(super) tls: String,
    /// The octets that stood for the message on the wire.
    pub(super) wire: Vec<u8>,
}

/// Submits one message, with every line told as it passes.
///
/// # Errors
/// Any reply but the expected one.
pub(super) async fn submit(
    bob: Bob,
    to: &str,
    content: &[u8],
    clock: Instant,
    tell: mpsc::UnboundedSender<DialogueLine>,
) -> anyhow::Result<Accepted> {
    let mut talk = Talk::connect(bob.server, clock, tell).await?;
    talk.expect("220").await?;
    talk.say("EHLO bobs-laptop.bob.test").await?;
    talk.expect("250").await?;
    talk.say("STARTTLS").await?;
    talk.expect("220").await?;
    let tls = talk.start_tls(bob.tls, &bob.server_name).await?;

    talk.say("EHLO bobs-laptop.bob.test").await?;
    talk.expect("250").await?;
    let secret = STANDARD.encode(format!("\0{}\0{}", bob.address, bob.password));
    talk.say_as(&format!("AUTH PLAIN {secret}"), "AUTH PLAIN [hidden]")
        .await?;
    talk.expect("235").await?;

    let size = content.len();
    talk.say(&format!(
        "MAIL FROM:<{}> SIZE={size} BODY=8BITMIME",
        bob.address
    ))
    .await?;
    talk.expect("250").await?;
    talk.say(&format!("RCPT TO:<{to}>")).await?;
    talk.expect("250").await?;
    talk.say("DATA").await?;
    talk.expect("354").await?;
    let wire = message::stuff(content);
    for line in tell_content(content, &wire) {
        talk.told(From::Client, &line);
    }
    talk.told(From::Client, ".");
    talk.send(&wire).await?;
    let reply = talk.expect("250").await?;
    let queue_id = queue_id(&reply).with_context(|| format!("no queue id in {reply:?}"))?;
    talk.say("QUIT").await?;
    talk.expect("221").await?;
    Ok(Accepted {
        queue_id,
        tls,
        wire,
    })
}

/// What is told of the content: its size, and the lines that stuffing is about.
fn tell_content(content: &[u8], wire: &[u8]) -> Vec<String> {
    let mut told = vec![format!("[{} octets of content, in it:]", content.len())];
    for sight in message::sights(content, wire) {
        let message::Sight {
            number,
            line,
            on_the_wire,
        } = sight;
        told.push(if line == on_the_wire {
            on_the_wire
        } else {
            format!("{on_the_wire:<15} (line {number}: {line})")
        });
    }
    told
}

/// The queue id in a reply to end-of-data.
fn queue_id(reply: &str) -> Option<String> {
    reply
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .find(|word| word.parse::<QueueId>().is_ok())
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_id_is_found_in_the_reply() {
        let id = QueueId::new().to_string();
        let reply = format!("250 2.0.0 Ok: queued as {id}.");
        assert_eq!(queue_id(&reply), Some(id));
        assert_eq!(queue_id("250 2.0.0 Ok"), None);
    }
}
