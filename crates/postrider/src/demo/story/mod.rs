//! What is drawn of the performance, phase by phase.

mod fetching;
mod keeping;
mod lookup;
mod relay;
mod submission;

use std::time::{Instant, SystemTime};

use postrider_nameserver::Lookup;
use postrider_protocol::queue_v1::{Attempt, JourneyEvent, OutcomeKind, journey_event::What};
use tokio::sync::mpsc;

use super::lanes;
use super::performance::{self, Milestone, Performance, Seen};
use super::stage::Stage;
use super::world::{People, World};
use crate::diagram::{Row, Tone, Wire};
use crate::journey::time::milliseconds;

/// Tells the story once.
pub(crate) struct Story<'a> {
    stage: &'a mut Stage,
    zero_us: u64,
}

impl<'a> Story<'a> {
    /// A story to be told on this stage.
    pub(crate) fn new(stage: &'a mut Stage) -> Self {
        Self {
            stage,
            zero_us: unix_us(SystemTime::now()),
        }
    }

    /// Lets the message go from Bob to Alice, and draws what happens.
    ///
    /// # Errors
    /// Something on the way did not go as it must; what happened until then is drawn.
    pub(crate) async fn tell(
        mut self,
        world: &World,
        people: People,
        content: Vec<u8>,
        message_id: String,
        lookups: &mut mpsc::UnboundedReceiver<Lookup>,
    ) -> anyhow::Result<Seen> {
        self.introduce_submission().await?;
        self.zero_us = unix_us(SystemTime::now());
        let mut performance =
            performance::begin(world, people, content, message_id, Instant::now());
        self.draw(&mut performance, lookups).await?;
        performance.end.await?
    }

    /// Draws as far as the performance gets.
    async fn draw(
        &mut self,
        performance: &mut Performance,
        lookups: &mut mpsc::UnboundedReceiver<Lookup>,
    ) -> anyhow::Result<()> {
        let mut after_the_dot = self.submission(&mut performance.bob).await?;
        while let Some(milestone) = performance.milestones.recv().await {
            match milestone {
                Milestone::Queued(queued) => {
                    let row = self.queued_row(lanes::BOB_EDGE, lanes::BOB_QUEUE, &queued);
                    self.stage.rows(&[row]).await?;
                    self.stage.rows(&std::mem::take(&mut after_the_dot)).await?;
                }
                Milestone::Relayed(attempt, queued) => {
                    self.lookup(&attempt, lookups).await?;
                    self.relay(&attempt, queued.as_ref()).await?;
                }
                Milestone::Kept(attempt) => {
                    self.keeping(&attempt).await?;
                    self.fetching(&mut performance.alice).await?;
                }
            }
        }
        // Left over only if the message was not queued: what Bob was told then.
        self.stage.rows(&after_the_dot).await?;
        Ok(())
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
}

fn unix_us(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}
