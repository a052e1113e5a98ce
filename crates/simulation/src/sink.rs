//! A mail server at the other end: it takes mail, refuses it, keeps others waiting, breaks off.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use turmoil::net::{TcpListener, TcpStream};

use crate::ledger::Ledger;
use crate::network::EVERYWHERE;

/// Where it listens.
pub(crate) const PORT: u16 = 25;

/// How a sink behaves, in thousandths of chances.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manners {
    /// A recipient is deferred.
    pub(crate) defers: u32,
    /// A recipient is refused for good.
    pub(crate) refuses: u32,
    /// The connection is lost after the final dot; the message was taken, or not.
    pub(crate) breaks_off: u32,
    /// It answers a command late.
    pub(crate) dawdles: u32,
}

/// Serves until it is brought down.
pub(crate) async fn serve(
    name: String,
    manners: Manners,
    seed: u64,
    ledger: Ledger,
) -> turmoil::Result {
    let listener = TcpListener::bind((EVERYWHERE, PORT)).await?;
    let mut count = 0;
    loop {
        let (stream, _) = listener.accept().await?;
        count += 1;
        let session = Session {
            name: name.clone(),
            manners,
            chance: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(count)),
            ledger: ledger.clone(),
        };
        tokio::spawn(async move {
            // A connection that breaks is nothing to a server.
            drop(session.speak(stream).await);
        });
    }
}

struct Session {
    name: String,
    manners: Manners,
    chance: StdRng,
    ledger: Ledger,
}

impl Session {
    fn falls(&mut self, thousandths: u32) -> bool {
        self.chance.random_range(0..1000) < thousandths
    }

    async fn speak(mut self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut recipients: Vec<String> = Vec::new();
        stream.write_all(b"220 sink ESMTP\r\n").await?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if self.falls(self.manners.dawdles) {
                let wait = self.chance.random_range(0..4000);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            let verb = line.get(..4).unwrap_or("").to_ascii_uppercase();
            let reply: &str = match verb.as_str() {
                "EHLO" => "250-sink\r\n250 ENHANCEDSTATUSCODES\r\n",
                "MAIL" | "RSET" => {
                    recipients.clear();
                    "250 2.0.0 OK\r\n"
                }
                "RCPT" => {
                    if self.falls(self.manners.defers) {
                        "450 4.2.1 Not now\r\n"
                    } else if self.falls(self.manners.refuses) {
                        "550 5.1.1 Nobody of this name\r\n"
                    } else {
                        recipients.extend(address(&line));
                        "250 2.1.5 OK\r\n"
                    }
                }
                "DATA" if recipients.is_empty() => "554 5.5.1 No recipients\r\n",
                "DATA" => {
                    stream.write_all(b"354 Go on\r\n").await?;
                    let Some(content) = content(&mut stream).await? else {
                        return Ok(());
                    };
                    let breaks_off = self.falls(self.manners.breaks_off);
                    if !breaks_off || self.falls(500) {
                        self.take(&recipients, &content);
                    }
                    recipients.clear();
                    if breaks_off {
                        return Ok(());
                    }
                    "250 2.0.0 Taken\r\n"
                }
                "QUIT" => {
                    stream.write_all(b"221 2.0.0 Bye\r\n").await?;
                    return stream.shutdown().await;
                }
                _ => "500 5.5.2 What?\r\n",
            };
            stream.write_all(reply.as_bytes()).await?;
        }
    }

    fn take(&self, recipients: &[String], content: &str) {
        for recipient in recipients {
            self.ledger
                .event(&format!("{} takes mail for {recipient}", self.name));
            let mut book = self.ledger.book();
            *book.arrived.entry(recipient.clone()).or_insert(0) += 1;
        }
        // A DSN names whom it is about.
        let failed = content.lines().filter_map(|line| {
            let address = line.strip_prefix("Final-Recipient: rfc822;")?;
            Some(address.trim().to_owned())
        });
        for recipient in failed {
            self.ledger
                .event(&format!("{} is told that {recipient} failed", self.name));
            let mut book = self.ledger.book();
            *book.told_failed.entry(recipient).or_insert(0) += 1;
        }
    }
}

/// The address between angle brackets.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

/// Everything up to the final dot; `None` if the connection ends before.
async fn content(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut content = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line == ".\r\n" {
            return Ok(Some(content));
        }
        content.push_str(&line);
    }
}
