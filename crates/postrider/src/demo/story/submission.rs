//! Phase 1: Bob's mail program hands the message to Bob's server.

use anyhow::Context;
use postrider_protocol::queue_v1::{JourneyEvent, dialogue_line::From};
use tokio::sync::mpsc;

use super::{Story, queued};
use crate::demo::lanes;
use crate::demo::submit::{self, Accepted, Bob};
use crate::diagram::{Tone, Wire};
use crate::journey::dialogue::{Between, Teller};

impl Story<'_> {
    pub(super) async fn submission(
        &mut self,
        bob: Bob,
        to: &str,
        content: &[u8],
    ) -> anyhow::Result<Accepted> {
        self.stage
            .phase(
                1,
                "Bob's mail program hands the message to Bob's server",
                "Submission (RFC 6409): STARTTLS first (RFC 3207), then AUTH (RFC 4954), then a \
                 mail transaction (RFC 5321 section 3.3). A lone dot ends the content, so a line \
                 that begins with a dot gets one more (section 4.5.2). The last 250 means: safe. \
                 It comes after the message was synced to disk, not before.",
                &[lanes::BOB, lanes::BOB_EDGE, lanes::BOB_QUEUE],
            )
            .await?;
        self.start_clock();
        let (tell, mut told) = mpsc::unbounded_channel();
        let (to, content, clock) = (to.to_owned(), content.to_vec(), self.clock);
        let talking =
            tokio::spawn(async move { submit::submit(bob, &to, &content, clock, tell).await });
        let mut teller = Teller::new(Between {
            client: lanes::BOB,
            server: lanes::BOB_EDGE,
            wire: Wire::Plain,
            offset_us: 0,
        });
        let mut after_the_dot = Vec::new();
        let mut dot_sent = false;
        while let Some(line) = told.recv().await {
            let is_dot = line.from() == From::Client && line.text == ".";
            // What the wire shows of a line that begins with a dot is what people came to see.
            let has_dot = line.from() == From::Client && line.text.starts_with('.');
            let mut rows = teller.line(line);
            if has_dot {
                rows = rows.into_iter().map(|row| row.tone(Tone::Strong)).collect();
            }
            if dot_sent {
                // What the queue did in between is drawn first; it is asked for below.
                after_the_dot.extend(rows);
            } else {
                self.stage.rows(&rows).await?;
            }
            dot_sent |= is_dot;
        }
        let accepted = match talking.await? {
            Ok(accepted) => accepted,
            Err(error) => {
                self.stage.rows(&after_the_dot).await?;
                return Err(error);
            }
        };
        let queued = self.queued_at_bob(&accepted.queue_id).await?;
        self.stage
            .rows(&[self.queued_row(lanes::BOB_EDGE, lanes::BOB_QUEUE, &queued)])
            .await?;
        self.stage.rows(&after_the_dot).await?;
        Ok(accepted)
    }

    async fn queued_at_bob(&self, queue_id: &str) -> anyhow::Result<JourneyEvent> {
        let journeys = self.world.bob.admin().journey(queue_id.to_owned()).await?;
        queued(journeys.journeys.into_iter().flat_map(|j| j.events))
            .context("Bob's queue knows nothing of the message that it accepted")
    }
}
