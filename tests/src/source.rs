//! A numbered load: sends messages over SMTP and remembers which were accepted, and when.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The header field that holds a message's number.
pub const NUMBER_HEADER: &str = "X-Number: ";

/// What is sent.
#[derive(Debug, Clone)]
pub struct Load {
    /// Numbers from `first` on.
    pub first: u64,
    /// How many messages.
    pub messages: u64,
    /// Connections at one time.
    pub connections: usize,
    /// Size of a message in bytes, header section included.
    pub size: usize,
    /// Wait before the next message on the same connection; for a load that only trickles.
    pub pause: Duration,
    /// MAIL FROM.
    pub sender: String,
    /// RCPT TO; "%" stands for the message's number modulo 10.
    pub recipient: String,
    /// How many recipients a message has. From the second on they are called by numbers:
    /// "2.sink@sink.test".
    pub recipients: usize,
    /// Try again until accepted, for so long; without it an error ends the load.
    pub persist: Option<Duration>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            first: 0,
            messages: 1_000,
            connections: 20,
            size: 4_096,
            pause: Duration::ZERO,
            sender: "source@load.test".to_owned(),
            recipient: "sink@sink.test".to_owned(),
            recipients: 1,
            persist: None,
        }
    }
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Sent {
    /// Accepted numbers, each with the moment of its 250.
    pub accepted: Vec<(u64, Instant)>,
    /// Numbers that were sent to the final dot at least once without an answer: only for
    /// these may the source itself be the reason of a duplicate.
    pub unanswered: HashSet<u64>,
    /// Replies that put a message off, or lost connections.
    pub setbacks: u64,
    /// From the first connection to the last 250.
    pub elapsed: Duration,
}

/// The header field that holds the CRC-32 of the body, in hexadecimal.
pub const CHECKSUM_HEADER: &str = "X-Checksum: ";

/// A numbered message, lines ended by CRLF, without dot-stuffing. Every eighth line of the
/// body begins with a dot.
#[must_use]
pub fn message(load: &Load, number: u64) -> Vec<u8> {
    // Known to be shorter than this; the rest of the size is body.
    const HEADER: usize = 320;
    let mut body = Vec::with_capacity(load.size);
    for line in 0..load.size.saturating_sub(HEADER).max(64) / 64 {
        let start = if line % 8 == 7 { '.' } else { 'a' };
        body.extend_from_slice(
            format!(
                "{start}{line:06} {number:010} {:0<43}\r\n",
                "the quick brown fox"
            )
            .as_bytes(),
        );
    }
    let mut text = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: load {number}\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n\
         Message-ID: <load.{number}@load.test>\r\n{NUMBER_HEADER}{number}\r\n{CHECKSUM_HEADER}{sum:08x}\r\n\r\n",
        from = load.sender,
        to = recipient(load, number),
        sum = crc32fast::hash(&body),
    )
    .into_bytes();
    text.extend_from_slice(&body);
    text
}

/// A content as it goes over the wire, with the final dot.
#[must_use]
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + 64);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

fn recipient(load: &Load, number: u64) -> String {
    load.recipient.replace('%', &(number % 10).to_string())
}

/// Sends a load and returns when every number was accepted, or the load was given up.
///
/// # Errors
/// A message was refused or a connection lost, and the load does not persist.
pub async fn send(address: SocketAddr, load: &Load) -> anyhow::Result<Sent> {
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(load.first));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..load.connections {
        tasks.spawn(connection(address, load.clone(), Arc::clone(&next)));
    }
    let mut sent = Sent::default();
    while let Some(part) = tasks.join_next().await {
        let part = part??;
        sent.accepted.extend(part.accepted);
        sent.unanswered.extend(part.unanswered);
        sent.setbacks += part.setbacks;
    }
    let last = sent
        .accepted
        .iter()
        .map(|(_, at)| *at)
        .max()
        .unwrap_or(started);
    sent.elapsed = last - started;
    Ok(sent)
}

/// One connection's share: takes the next number until none is left.
async fn connection(address: SocketAddr, load: Load, next: Arc<AtomicU64>) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    let mut client = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.first + load.messages {
            break;
        }
        let deadline = load.persist.map(|persist| Instant::now() + persist);
        loop {
            let mut dot_left = false;
            match transaction(&mut client, address, &load, number, &mut dot_left).await {
                Ok(()) => {
                    sent.accepted.push((number, Instant::now()));
                    break;
                }
                Err(error) => {
                    client = None;
                    sent.setbacks += 1;
                    if dot_left {
                        sent.unanswered.insert(number);
                    }
                    if deadline.is_none_or(|deadline| Instant::now() > deadline) {
                        return Err(error.context(format!("message {number}")));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        if !load.pause.is_zero() {
            tokio::time::sleep(load.pause).await;
        }
    }
    if let Some(mut client) = client {
        // The server may have gone by now; everything was accepted before.
        client.stream.write_all(b"QUIT\r\n").await.ok();
    }
    Ok(sent)
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// One message: MAIL, RCPT and DATA in one write (RFC 2920), then the content.
async fn transaction(
    client: &mut Option<Client>,
    address: SocketAddr,
    load: &Load,
    number: u64,
    dot_left: &mut bool,
) -> anyhow::Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(address).await?),
    };
    let mut commands = format!(
        "MAIL FROM:<{}>\r\nRCPT TO:<{}>\r\n",
        load.sender,
        recipient(load, number)
    );
    for more in 2..=load.recipients {
        commands.push_str(&format!("RCPT TO:<{more}.{}>\r\n", recipient(load, number)));
    }
    commands.push_str("DATA\r\n");
    client.stream.write_all(commands.as_bytes()).await?;
    client.expect(250).await?;
    for _ in 0..load.recipients {
        client.expect(250).await?;
    }
    client.expect(354).await?;
    let stuffed = stuffed(&message(load, number));
    *dot_left = true;
    client.stream.write_all(&stuffed).await?;
    let outcome = client.expect(250).await;
    // A reply that says no is an answer as well.
    *dot_left = client.buffer.is_empty() && outcome.is_err();
    outcome
}

impl Client {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            buffer: Vec::with_capacity(1_024),
        };
        client.expect(220).await?;
        client.stream.write_all(b"EHLO source.test\r\n").await?;
        client.expect(250).await?;
        Ok(client)
    }

    /// Reads one reply. On an unexpected one, the reply stays in the buffer.
    async fn expect(&mut self, code: u16) -> anyhow::Result<()> {
        loop {
            while let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = &self.buffer[..end];
                if line.get(3) == Some(&b'-') {
                    self.buffer.drain(..end + 2);
                    continue;
                }
                if !line.starts_with(code.to_string().as_bytes()) {
                    bail!("expected {code}, got {}", String::from_utf8_lossy(line));
                }
                self.buffer.drain(..end + 2);
                return Ok(());
            }
            let read = self.stream.read_buf(&mut self.buffer);
            let octets = tokio::time::timeout(Duration::from_secs(60), read)
                .await
                .context("no reply within a minute")??;
            if octets == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}
