//! Sessions that are open while a process stops, each where it can be hurt.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{Client, Heard};
use super::mail::{Ledger, content, group};

/// How long those in the middle of DATA go on sending, and how long they rest between pieces.
const SLOWLY: Duration = Duration::from_secs(2);
const PIECE: Duration = Duration::from_millis(100);
/// One goes into the store itself, the other is streamed into the object store as it comes in.
const SIZES: [usize; 2] = [8 << 10, 300 << 10];

/// What is to become of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its own server stops: it is told so, and closed.
    Told,
    /// A service behind its server stops: nothing happens to it.
    Lives,
}

/// Sessions with one edge.
pub(crate) struct Held {
    ledger: Arc<Ledger>,
    idle: Vec<Client>,
    in_data: Vec<JoinHandle<Slow>>,
    pipelining: JoinHandle<Pipeline>,
    stage: watch::Sender<Stage>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Opening,
    /// The process stops now: who is in the middle of DATA goes on, and takes its time.
    Stopping,
    /// Who is not done by itself ends.
    Over,
}

/// What a client in the middle of DATA came to.
struct Slow {
    client: Client,
    number: u64,
    accepted: bool,
}

/// What a client that pipelines came to.
#[derive(Default)]
struct Pipeline {
    /// The session, if it goes on.
    client: Option<Client>,
    /// It was told 421, and then closed.
    told: bool,
    /// What was not accepted.
    left: Vec<u64>,
}

impl Held {
    /// Opens them. When it returns, each is where it is meant to be.
    pub(crate) async fn open(ledger: &Arc<Ledger>, server: SocketAddr) -> anyhow::Result<Self> {
        let (stage, stages) = watch::channel(Stage::Opening);
        let mut in_data = Vec::new();
        for size in SIZES {
            let (mut client, number) = begin(ledger, server).await?;
            let mut content = content(number, size);
            // So that what is large has left the edge before anything stops.
            client.send(&content[..size / 2]).await;
            let rest = content.split_off(size / 2);
            let sending = send_slowly(ledger.clone(), client, number, rest, stages.clone());
            in_data.push(tokio::spawn(sending));
        }
        let hello = connect(server).await?;
        let (mut used, number) = begin(ledger, server).await?;
        used.send(&content(number, 2_048)).await;
        ensure!(used.hear().await.is("250"), "a message is not accepted");
        ledger.accepted(number);
        let (client, number) = begin(ledger, server).await?;
        Ok(Self {
            ledger: ledger.clone(),
            idle: vec![hello, used],
            in_data,
            pipelining: tokio::spawn(pipeline(ledger.clone(), client, number, stages)),
            stage,
        })
    }

    /// A process is asked to stop now.
    pub(crate) fn stopping(&self) {
        self.stage.send_replace(Stage::Stopping);
    }

    /// It has stopped. Checks what became of each session; gives the messages that were put off.
    pub(crate) async fn finish(self, fate: Fate) -> anyhow::Result<Vec<u64>> {
        let mut left = Vec::new();
        for client in self.idle {
            self.ledger
                .check(end(client, fate).await, "an idle session");
        }
        for sending in self.in_data {
            let slow = sending.await?;
            if !slow.accepted {
                left.push(slow.number);
            }
            self.ledger
                .check(end(slow.client, fate).await, "a session that was in DATA");
        }
        if fate == Fate::Lives {
            self.stage.send_replace(Stage::Over);
        }
        let pipeline = self.pipelining.await?;
        left.extend(pipeline.left);
        match (fate, pipeline.client) {
            (Fate::Told, _) => self.ledger.check(pipeline.told, "a pipelining session"),
            (Fate::Lives, Some(client)) => client.quit().await,
            // It was put off, which its server may do, and gave up.
            (Fate::Lives, None) => {}
        }
        Ok(left)
    }
}

async fn connect(server: SocketAddr) -> anyhow::Result<Client> {
    let client = Client::connect(server).await?;
    client.with_context(|| format!("{server} takes no connection"))
}

/// A session that has heard 354 for a message.
async fn begin(ledger: &Ledger, server: SocketAddr) -> anyhow::Result<(Client, u64)> {
    let mut client = connect(server).await?;
    let number = ledger.number();
    client.send(&group(number)).await;
    for wanted in ["250", "250", "354"] {
        let heard = client.hear().await;
        ensure!(heard.is(wanted), "a message is not taken: {heard:?}");
    }
    Ok((client, number))
}

/// Whether a session that waits for nothing ends, or goes on, as it should.
async fn end(mut client: Client, fate: Fate) -> bool {
    match fate {
        Fate::Told => client.hear().await.is("421") && client.hear().await == Heard::End,
        Fate::Lives => {
            client.send(b"NOOP\r\n").await;
            let lives = client.hear().await.is("250");
            client.quit().await;
            lives
        }
    }
}

async fn send_slowly(
    ledger: Arc<Ledger>,
    mut client: Client,
    number: u64,
    rest: Vec<u8>,
    mut stages: watch::Receiver<Stage>,
) -> Slow {
    // Its owner only goes away where the test has failed.
    stages.wait_for(|now| *now >= Stage::Stopping).await.ok();
    let pieces = usize::try_from(SLOWLY.as_millis() / PIECE.as_millis()).unwrap_or(1);
    for piece in rest.chunks(rest.len().div_ceil(pieces)) {
        tokio::time::sleep(PIECE).await;
        client.send(piece).await;
    }
    let accepted = ledger.final_reply(number, &client.hear().await);
    Slow {
        client,
        number,
        accepted,
    }
}

/// Each write ends a message and begins the next, so that the session is never between two of them
/// with nothing to read.
async fn pipeline(
    ledger: Arc<Ledger>,
    mut client: Client,
    mut number: u64,
    stages: watch::Receiver<Stage>,
) -> Pipeline {
    let mut left = Vec::new();
    loop {
        let last = *stages.borrow() == Stage::Over;
        let next = (!last).then(|| ledger.number());
        let mut octets = content(number, 2_048);
        octets.extend(next.map(group).unwrap_or_default());
        client.send(&octets).await;
        if !ledger.final_reply(number, &client.hear().await) {
            left.push(number);
        }
        let Some(next) = next else {
            return Pipeline {
                client: Some(client),
                left,
                ..Pipeline::default()
            };
        };
        for (what, wanted) in [("MAIL", "250"), ("RCPT", "250"), ("DATA", "354")] {
            let heard = client.hear().await;
            if !ledger.goes_on(what, &heard, wanted) {
                left.push(next);
                return Pipeline {
                    told: heard.is("421") && client.hear().await == Heard::End,
                    left,
                    ..Pipeline::default()
                };
            }
        }
        number = next;
    }
}
