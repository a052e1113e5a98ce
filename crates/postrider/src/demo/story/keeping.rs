//! Phase 4: Alice's server puts the message into her mailbox.

use postrider_protocol::queue_v1::Attempt;

use super::Story;
use crate::demo::lanes;
use crate::diagram::{Row, Wire};
use crate::journey::dialogue::{Between, opened, rows};

impl Story<'_> {
    pub(super) async fn keeping(&mut self, attempt: &Attempt) -> anyhow::Result<()> {
        self.stage
            .phase(
                4,
                "Alice's server puts the message into her mailbox",
                "Final delivery (RFC 5321 section 4.4): Return-Path goes on top, the file is \
                 synced before the delivery counts as done (Maildir). Then the queue forgets it.",
                &[
                    lanes::ALICE_QUEUE,
                    lanes::ALICE_DELIVERY,
                    lanes::ALICE_MAILBOX,
                ],
            )
            .await?;
        let (queue, delivery) = (lanes::ALICE_QUEUE, lanes::ALICE_DELIVERY);
        let lease = format!("lease: one delivery to {}", attempt.destination);
        let mut drawn = vec![
            Row::arrow(queue, delivery, Wire::Inside, lease).at(self.time(attempt.started_us)),
        ];
        let between = Between {
            client: delivery,
            server: lanes::ALICE_MAILBOX,
            wire: Wire::Inside,
            offset_us: opened(attempt, self.zero_us),
        };
        drawn.extend(rows(&attempt.dialogue, between));
        drawn.extend(self.outcome_rows(delivery, queue, attempt));
        self.stage.rows(&drawn).await?;
        Ok(())
    }
}
