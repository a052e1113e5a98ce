//! A source of mail: a client of the edge that remembers what it was promised.

use std::time::Duration;

use postrider_protocol::QueueId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use crate::ledger::Ledger;

/// Longest wait for a reply; longer than anything that befalls the edge.
const PATIENCE: Duration = Duration::from_secs(90);

/// What it sends.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) edge: &'static str,
    pub(crate) port: u16,
    pub(crate) messages: u32,
    pub(crate) domains: Vec<String>,
    /// Whom DSNs go to.
    pub(crate) sender: String,
    /// Longest wait between two messages.
    pub(crate) pause: Duration,
}

/// Sends all messages, each once: one whose fate nobody told is not promised.
pub(crate) async fn send(load: Load, number: u32, seed: u64, ledger: Ledger) -> turmoil::Result {
    let mut chance = StdRng::seed_from_u64(seed ^ (u64::from(number) << 32));
    let mut connection = None;
    for message in 0..load.messages {
        let most = load.pause.as_micros() as u64;
        sleep(Duration::from_micros(chance.random_range(0..=most))).await;
        let count = chance.random_range(1..=4);
        let recipients: Vec<String> = (0..count)
            .map(|recipient| {
                let domain = &load.domains[chance.random_range(0..load.domains.len())];
                format!("c{number}m{message}r{recipient}@{domain}")
            })
            .collect();
        let mut client = match connection.take() {
            Some(client) => client,
            None => match connect(&load).await {
                Some(client) => client,
                None => continue,
            },
        };
        match timeout(PATIENCE, transaction(&mut client, &load, &recipients)).await {
            Ok(Some(Some(id))) => {
                ledger.event(&format!("{id} is promised to {recipients:?}"));
                let mut book = ledger.book();
                for recipient in recipients {
                    book.acknowledged.insert(recipient, id.to_string());
                }
                connection = Some(client);
            }
            Ok(Some(None)) => {
                ledger.event("the edge takes nothing now");
                connection = Some(client);
            }
            // The connection is of no use any more.
            Ok(None) | Err(_) => ledger.event("the edge is lost"),
        }
    }
    Ok(())
}

type Client = BufReader<TcpStream>;

async fn connect(load: &Load) -> Option<Client> {
    let stream = timeout(
        Duration::from_secs(5),
        TcpStream::connect((load.edge, load.port)),
    );
    let mut client = BufReader::new(stream.await.ok()?.ok()?);
    let greeting = timeout(PATIENCE, reply(&mut client)).await.ok()??;
    (greeting.0 == 220).then_some(())?;
    let (code, _) = timeout(PATIENCE, say(&mut client, "EHLO source.test"))
        .await
        .ok()??;
    (code == 250).then_some(client)
}

/// One message. The queue id if it was accepted, `None` if it was refused; nothing if the connection is
/// lost.
async fn transaction(
    client: &mut Client,
    load: &Load,
    recipients: &[String],
) -> Option<Option<QueueId>> {
    let (code, _) = say(client, &format!("MAIL FROM:<{}>", load.sender)).await?;
    if code != 250 {
        return Some(None);
    }
    for recipient in recipients {
        let (code, _) = say(client, &format!("RCPT TO:<{recipient}>")).await?;
        if code != 250 {
            say(client, "RSET").await?;
            return Some(None);
        }
    }
    if say(client, "DATA").await?.0 != 354 {
        return Some(None);
    }
    let content = format!(
        "From: <{}>\r\nSubject: {}\r\n\r\nHello.\r\n.",
        load.sender, recipients[0]
    );
    let (code, text) = say(client, &content).await?;
    if code != 250 {
        return Some(None);
    }
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let id = words.find_map(|word| word.parse::<QueueId>().ok());
    Some(Some(id.expect("a 250 names the message")))
}

async fn say(client: &mut Client, line: &str) -> Option<(u16, String)> {
    client
        .write_all(format!("{line}\r\n").as_bytes())
        .await
        .ok()?;
    reply(client).await
}

async fn reply(client: &mut Client) -> Option<(u16, String)> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        text.push_str(line.get(4..).unwrap_or(""));
        if line.as_bytes().get(3) != Some(&b'-') {
            return Some((line.get(..3)?.parse().ok()?, text));
        }
    }
}
