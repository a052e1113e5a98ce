//! The demo's course: what happens, phase by phase, and what of it is drawn.

mod fetching;
mod keeping;
mod lookup;
mod relay;
mod submission;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use postrider_nameserver::Lookup;
use postrider_protocol::Status;
use postrider_protocol::queue_v1::{Attempt, JourneyEvent, OutcomeKind, journey_event::What};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fetch::{Alice, Fetched};
use super::stage::Stage;
use super::submit::{Accepted, Bob};
use super::world::World;
use crate::diagram::{Row, Tone, Wire};
use crate::journey::time::milliseconds;

/// A step that takes longer than this does not work.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the demo has seen, for the verdict.
pub(crate) struct Seen {
    /// Bob's side of the submission.
    pub(crate) accepted: Accepted,
    /// Bob's server to Alice's server.
    pub(crate) relayed: Attempt,
    /// Alice's side of the fetching.
    pub(crate) fetched: Fetched,
    /// The queue id at Alice's server.
    pub(crate) alices_queue_id: String,
}

/// Tells the story once.
pub(crate) struct Story<'a> {
    stage: &'a mut Stage,
    world: &'a World,
    clock: Instant,
    zero_us: u64,
}

impl<'a> Story<'a> {
    /// A story that begins now.
    pub(crate) fn new(stage: &'a mut Stage, world: &'a World) -> Self {
        Self {
            stage,
            world,
            clock: Instant::now(),
            zero_us: unix_us(SystemTime::now()),
        }
    }

    /// Runs the message from Bob to Alice.
    ///
    /// # Errors
    /// Something on the way did not go as it must.
    pub(crate) async fn tell(
        mut self,
        bob: Bob,
        alice: Alice,
        content: &[u8],
        message_id: &str,
        lookups: &mut mpsc::UnboundedReceiver<Lookup>,
    ) -> anyhow::Result<Seen> {
        let accepted = self
            .submission(bob, &alice.address, content)
            .await
            .context("Bob could not hand his message in")?;
        let mut events = self.follow_bob(&accepted.queue_id).await?;
        let relayed = next_attempt(&mut events)
            .await
            .context("Bob's server did not hand the message on")?;
        self.lookup(&relayed, lookups).await?;
        let (alices_queue_id, queued) = self.find_at_alice(message_id).await?;
        self.relay(&relayed, queued.as_ref()).await?;
        all_delivered(&relayed)?;

        let mut events = self.follow_alice(&alices_queue_id).await?;
        let kept = next_attempt(&mut events)
            .await
            .context("Alice's server did not put the message into her mailbox")?;
        self.keeping(&kept).await?;
        all_delivered(&kept)?;
        let fetched = self
            .fetching(alice)
            .await
            .context("Alice could not fetch the message")?;
        Ok(Seen {
            accepted,
            relayed,
            fetched,
            alices_queue_id,
        })
    }

    fn start_clock(&mut self) {
        self.clock = Instant::now();
        self.zero_us = unix_us(SystemTime::now());
    }

    fn since_start(&self, at_us: u64) -> u64 {
        at_us.saturating_sub(self.zero_us)
    }

    fn time(&self, at_us: u64) -> String {
        milliseconds(self.since_start(at_us))
    }

    fn queued_row(&self, edge: usize, queue: usize, event: &JourneyEvent) -> Row {
        let size = match &event.what {
            Some(What::Queued(queued)) => queued.size,
            _ => 0,
        };
        Row::arrow(
            edge,
            queue,
            Wire::Inside,
            format!("{size} octets: the 250 waits for the disk"),
        )
        .tone(Tone::Strong)
        .at(self.time(event.time_us))
    }

    fn outcome_rows(&self, delivery: usize, queue: usize, attempt: &Attempt) -> Vec<Row> {
        attempt
            .outcomes
            .iter()
            .map(|outcome| {
                let (what, tone) = match outcome.kind() {
                    OutcomeKind::Delivered => ("is delivered", Tone::Strong),
                    _ => ("is not delivered", Tone::Bad),
                };
                Row::arrow(
                    delivery,
                    queue,
                    Wire::Inside,
                    format!("<{}> {what}", outcome.address),
                )
                .tone(tone)
                .at(self.time(attempt.ended_us))
            })
            .collect()
    }

    async fn follow_bob(&self, queue_id: &str) -> anyhow::Result<Events> {
        let admin = self.world.bob.admin();
        Ok(admin.follow_journey(queue_id.to_owned()).await?)
    }

    async fn follow_alice(&self, queue_id: &str) -> anyhow::Result<Events> {
        let admin = self.world.alice.admin();
        Ok(admin.follow_journey(queue_id.to_owned()).await?)
    }
}

type Events = BoxStream<'static, Result<JourneyEvent, Status>>;

fn queued(mut events: impl Iterator<Item = JourneyEvent>) -> Option<JourneyEvent> {
    events.find(|event| matches!(event.what, Some(What::Queued(_))))
}

async fn next_attempt(events: &mut Events) -> anyhow::Result<Attempt> {
    let find = async {
        while let Some(event) = events.next().await {
            if let Some(What::Attempt(attempt)) = event?.what {
                return Ok(attempt);
            }
        }
        bail!("the journey ended without an attempt")
    };
    timeout(PATIENCE, find)
        .await
        .context("no attempt was made in time")?
}

fn all_delivered(attempt: &Attempt) -> anyhow::Result<()> {
    for outcome in &attempt.outcomes {
        if outcome.kind() != OutcomeKind::Delivered {
            bail!(
                "<{}> was not delivered to {}: {} {} {}",
                outcome.address,
                attempt.destination,
                outcome.reply_code,
                outcome.enhanced_status,
                outcome.reply_text
            );
        }
    }
    Ok(())
}

fn unix_us(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}
