//! Phase 5: Alice's mail program fetches the message.

use postrider_protocol::queue_v1::DialogueLine;
use tokio::sync::mpsc;

use super::Story;
use crate::demo::lanes;
use crate::diagram::Wire;
use crate::journey::dialogue::{Between, Teller};

impl Story<'_> {
    pub(super) async fn fetching(
        &mut self,
        told: &mut mpsc::UnboundedReceiver<DialogueLine>,
    ) -> std::io::Result<()> {
        self.stage
            .phase(
                5,
                "Alice's mail program fetches the message",
                "POP3 (RFC 1939): STLS first (RFC 2595), then the password, then the message, \
                 stuffed with dots by the same rule, and deleted.",
                &[lanes::ALICE_MAILBOX, lanes::ALICE],
            )
            .await?;
        let mut teller = Teller::new(Between {
            client: lanes::ALICE,
            server: lanes::ALICE_MAILBOX,
            wire: Wire::Plain,
            offset_us: 0,
        });
        while let Some(line) = told.recv().await {
            self.stage.rows(&teller.line(line)).await?;
        }
        Ok(())
    }
}
