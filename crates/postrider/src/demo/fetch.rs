//! Alice's mail program: fetches over POP3 (RFC 1939), under TLS by STLS (RFC 2595).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use postrider_protocol::queue_v1::{DialogueLine, dialogue_line::From};
use tokio::sync::mpsc;

use super::message;
use super::talk::Talk;

/// More than the demo's message has, and an end to a server that never stops.
const MOST_LINES: usize = 1_000;

/// What Alice's mail program was set up with.
pub(super) struct Alice {
    /// The POP3 port.
    pub(super) server: SocketAddr,
    /// The name that the server's certificate must be valid for.
    pub(super) server_name: String,
    /// What certificates are checked against.
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// Her account.
    pub(super) address: String,
    /// Her password.
    pub(super) password: String,
}

/// What was in the maildrop.
pub(super) struct Fetched {
    /// The message as it was kept, without dot-stuffing.
    pub(super) message: Vec<u8>,
    /// TLS' version.
    pub(super) tls: String,
}

/// Fetches the one message that must be there, and deletes it.
///
/// # Errors
/// Any response but the expected one; another number of messages than one.
pub(super) async fn fetch(
    alice: Alice,
    clock: Instant,
    tell: mpsc::UnboundedSender<DialogueLine>,
) -> anyhow::Result<Fetched> {
    let mut talk = Talk::connect(alice.server, clock, tell).await?;
    ok(&mut talk).await?;
    talk.say("STLS").await?;
    ok(&mut talk).await?;
    let tls = talk.start_tls(alice.tls, &alice.server_name).await?;
    talk.say(&format!("USER {}", alice.address)).await?;
    ok(&mut talk).await?;
    talk.say_as(&format!("PASS {}", alice.password), "PASS [hidden]")
        .await?;
    ok(&mut talk).await?;
    talk.say("STAT").await?;
    let stat = ok(&mut talk).await?;
    let count = stat.split(' ').nth(1).unwrap_or_default();
    if count != "1" {
        bail!("one message should be in the maildrop, the server said: {stat}");
    }
    talk.say("UIDL 1").await?;
    ok(&mut talk).await?;
    talk.say("RETR 1").await?;
    ok(&mut talk).await?;
    let wire = content(&mut talk).await?;
    let message = message::unstuff(&wire).context("the message has no end")?;
    for line in tell_content(&message, &wire) {
        talk.told(From::Server, &line);
    }
    talk.told(From::Server, ".");
    talk.say("DELE 1").await?;
    ok(&mut talk).await?;
    talk.say("QUIT").await?;
    ok(&mut talk).await?;
    Ok(Fetched { message, tls })
}

async fn ok(talk: &mut Talk) -> anyhow::Result<String> {
    let line = talk.hear().await?;
    if !line.starts_with("+OK") {
        bail!("expected +OK, the server said: {line}");
    }
    Ok(line)
}

/// The lines of a multi-line response, up to and with the lone dot.
async fn content(talk: &mut Talk) -> anyhow::Result<Vec<u8>> {
    let mut wire = Vec::new();
    for _ in 0..MOST_LINES {
        let line = talk.line().await?;
        wire.extend_from_slice(&line);
        if line == b".\r\n" {
            return Ok(wire);
        }
    }
    bail!("the message has more than {MOST_LINES} lines")
}

fn tell_content(message: &[u8], wire: &[u8]) -> Vec<String> {
    let mut told = vec![format!("[{} octets of content, in it:]", message.len())];
    told.extend(
        message::sights(message, wire)
            .into_iter()
            .filter(|sight| sight.line == ".")
            .map(|sight| {
                format!(
                    "{:<15} (line {}: {})",
                    sight.on_the_wire, sight.number, sight.line
                )
            }),
    );
    told
}
