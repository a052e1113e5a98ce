//! The load: numbered messages to one to three recipients, at a steady pace, each sent again until
//! it is accepted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::history::Accepted;
use super::parse;
use crate::source::{self, Load};

/// Where DSNs go.
pub const SENDER: &str = "sender@origin.test";
/// For an answer; a server that stands still is waited for no longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until the next try.
const AGAIN: Duration = Duration::from_millis(50);
/// For the last messages to be accepted once everything is well again.
const LAST: Duration = Duration::from_secs(60);

/// What the sources heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// Each 250.
    pub accepted: Vec<Accepted>,
    /// Numbers with a final dot that nobody answered.
    pub unanswered: BTreeSet<u64>,
    /// 5yz replies.
    pub refused: Vec<String>,
    /// Sessions that ended neither at our wish nor with a 421.
    pub cut: u64,
    /// 4yz replies and lost connections.
    pub setbacks: u64,
    /// What could not be sent at all.
    pub given_up: Vec<String>,
}

/// Sources that run.
#[derive(Debug)]
pub struct Sources {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Heard>>,
}

/// How much.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Connections.
    pub connections: usize,
    /// Messages a second, over all of them.
    pub rate: u32,
    /// Domains that recipients are of.
    pub domains: Vec<String>,
    /// What the recipients follow from.
    pub seed: u64,
}

impl Sources {
    /// Starts sending.
    #[must_use]
    pub fn start(server: SocketAddr, pace: &Pace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let tasks = (0..pace.connections)
            .map(|_| {
                let source = Source {
                    server,
                    pace: pace.clone(),
                    stop: stop.clone(),
                    next: next.clone(),
                    client: None,
                    heard: Heard::default(),
                };
                tokio::spawn(source.run())
            })
            .collect();
        Self { stop, tasks }
    }

    /// Lets each source finish the message that it is at, and gives what they heard.
    pub async fn finish(self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Heard::default();
        for task in self.tasks {
            let heard = task.await.expect("a source does not panic");
            all.accepted.extend(heard.accepted);
            all.unanswered.extend(heard.unanswered);
            all.refused.extend(heard.refused);
            all.given_up.extend(heard.given_up);
            all.cut += heard.cut;
            all.setbacks += heard.setbacks;
        }
        all
    }
}

struct Source {
    server: SocketAddr,
    pace: Pace,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    client: Option<Client>,
    heard: Heard,
}

/// Three in four are taken, some are put off once, some are refused.
fn recipients(pace: &Pace, number: u64) -> Vec<String> {
    let mut random = SmallRng::seed_from_u64(pace.seed ^ number.wrapping_mul(0x9e37_79b9));
    let count = match random.random_range(0..10) {
        0..7 => 1,
        7..9 => 2,
        _ => 3,
    };
    (0..count)
        .map(|n| {
            let domain = &pace.domains[random.random_range(0..pace.domains.len())];
            let kind = match random.random_range(0..100) {
                0..8 => "fail",
                8..20 => "later",
                _ => "ok",
            };
            format!("{kind}-{number}-{n}@{domain}")
        })
        .collect()
}

impl Source {
    async fn run(mut self) -> Heard {
        let between = Duration::from_secs(1) * u32::try_from(self.pace.connections).unwrap_or(1)
            / self.pace.rate.max(1);
        let mut ticks = tokio::time::interval(between);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.send(number).await {
                self.heard
                    .given_up
                    .push(format!("message {number}: {error:#}"));
                break;
            }
        }
        if let Some(mut client) = self.client.take() {
            client.stream.write_all(b"QUIT\r\n").await.ok();
        }
        self.heard
    }

    async fn send(&mut self, number: u64) -> anyhow::Result<()> {
        let recipients = recipients(&self.pace, number);
        let mut stopped: Option<Instant> = None;
        loop {
            let mut dot_left = false;
            match self.transaction(number, &recipients, &mut dot_left).await {
                Ok(queue_id) => {
                    self.heard.accepted.push(Accepted {
                        number,
                        queue_id,
                        recipients,
                    });
                    return Ok(());
                }
                Err(error) => {
                    self.heard.setbacks += 1;
                    self.note(number, &error, dot_left);
                    self.client = None;
                    if self.stop.load(Ordering::Relaxed) {
                        let since = stopped.get_or_insert_with(Instant::now);
                        if since.elapsed() > LAST {
                            return Err(error);
                        }
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn note(&mut self, number: u64, error: &anyhow::Error, dot_left: bool) {
        match error.downcast_ref::<Refused>() {
            Some(refused) => {
                if refused.0.starts_with('5') {
                    self.heard
                        .refused
                        .push(format!("message {number}: {refused}"));
                }
            }
            None => {
                // The connection ended where an answer was due.
                self.heard.cut +=
                    u64::from(self.client.as_ref().is_some_and(|client| client.greeted));
                if dot_left {
                    self.heard.unanswered.insert(number);
                }
            }
        }
    }

    async fn transaction(
        &mut self,
        number: u64,
        recipients: &[String],
        dot_left: &mut bool,
    ) -> anyhow::Result<String> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::connect(self.server).await?),
        };
        let mut commands = format!("MAIL FROM:<{SENDER}>\r\n");
        for recipient in recipients {
            commands.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        commands.push_str("DATA\r\n");
        client.stream.write_all(commands.as_bytes()).await?;
        for _ in 0..=recipients.len() {
            client.expect("250").await?;
        }
        client.expect("354").await?;
        // Some are too large to lie in the store itself.
        let load = Load {
            size: if number % 40 == 17 { 100 << 10 } else { 1_500 },
            sender: SENDER.to_owned(),
            recipient: recipients[0].clone(),
            ..Load::default()
        };
        let content = source::stuffed(&source::message(&load, number));
        // From here on nobody can tell but the server.
        *dot_left = true;
        client.stream.write_all(&content).await?;
        let answer = client.expect("250").await?;
        parse::id_in(&answer).with_context(|| format!("no queue id in {answer:?}"))
    }
}

/// A reply that is not the expected one.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    greeted: bool,
}

impl Client {
    async fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            buffer: Vec::with_capacity(1_024),
            greeted: false,
        };
        client.expect("220").await?;
        client.greeted = true;
        client.stream.write_all(b"EHLO source.test\r\n").await?;
        client.expect("250").await?;
        Ok(client)
    }

    /// Reads one reply; gives its last line.
    async fn expect(&mut self, code: &str) -> anyhow::Result<String> {
        loop {
            while let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                if line.as_bytes().get(3) == Some(&b'-') {
                    continue;
                }
                if !line.starts_with(code) {
                    return Err(Refused(line).into());
                }
                return Ok(line);
            }
            let read = self.stream.read_buf(&mut self.buffer);
            let octets = tokio::time::timeout(PATIENCE, read)
                .await
                .context("no reply in time")??;
            if octets == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_follow_from_the_seed_and_are_of_every_kind() {
        let pace = Pace {
            connections: 1,
            rate: 1,
            domains: vec!["a.test".to_owned(), "b.test".to_owned()],
            seed: 3,
        };
        let all: Vec<Vec<String>> = (0..200).map(|number| recipients(&pace, number)).collect();
        assert_eq!(recipients(&pace, 5), all[5]);
        for kind in ["ok-", "later-", "fail-"] {
            assert!(all.iter().flatten().any(|one| one.starts_with(kind)));
        }
        for count in 1..=3 {
            assert!(all.iter().any(|one| one.len() == count));
        }
    }
}
