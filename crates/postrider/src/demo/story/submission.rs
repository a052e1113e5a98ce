//! Phase 1: Bob's mail program hands the message to Bob's server.

use postrider_protocol::queue_v1::{DialogueLine, dialogue_line::From};
use tokio::sync::mpsc;

use super::Story;
use crate::demo::lanes;
use crate::diagram::{Row, Tone, Wire};
use crate::journey::dialogue::{Between, Teller};

impl Story<'_> {
    pub(super) async fn introduce_submission(&mut self) -> std::io::Result<()> {
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
            .await
    }

    /// Draws the dialogue up to the final dot, and gives the rows after it: what the queue does
    /// in between comes first.
    pub(super) async fn submission(
        &mut self,
        told: &mut mpsc::UnboundedReceiver<DialogueLine>,
    ) -> std::io::Result<Vec<Row>> {
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
                after_the_dot.extend(rows);
            } else {
                self.stage.rows(&rows).await?;
            }
            dot_sent |= is_dot;
        }
        after_the_dot.extend(teller.rest());
        Ok(after_the_dot)
    }
}
