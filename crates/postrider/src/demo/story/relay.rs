//! Phase 3: Bob's server hands the message to Alice's.

use postrider_protocol::queue_v1::{Attempt, DialogueLine, JourneyEvent, dialogue_line::From};

use super::Story;
use crate::demo::lanes;
use crate::diagram::Wire;
use crate::journey::dialogue::{Between, opened, rows};

impl Story<'_> {
    pub(super) async fn relay(
        &mut self,
        attempt: &Attempt,
        queued: Option<&JourneyEvent>,
    ) -> anyhow::Result<()> {
        self.stage
            .phase(
                3,
                "Bob's server hands the message to Alice's server",
                "The same protocol, now between servers. TLS is taken because it is offered, \
                 whatever the certificate says (RFC 7435). Commands whose replies need not be \
                 awaited go out together (PIPELINING, RFC 2920). With its last 250, Alice's server \
                 takes the message over, and Bob's may forget it.",
                &[
                    lanes::BOB_QUEUE,
                    lanes::BOB_DELIVERY,
                    lanes::ALICE_EDGE,
                    lanes::ALICE_QUEUE,
                ],
            )
            .await?;
        let between = Between {
            client: lanes::BOB_DELIVERY,
            server: lanes::ALICE_EDGE,
            wire: Wire::Plain,
            offset_us: opened(attempt, self.zero_us),
        };
        let end_of_data = reply_to_the_dot(&attempt.dialogue);
        let (before, after) = attempt.dialogue.split_at(end_of_data);
        let starttls = before.iter().any(|line| line.text == "STARTTLS");
        let mut drawn = rows(before, between);
        drawn.extend(
            queued.map(|event| self.queued_row(lanes::ALICE_EDGE, lanes::ALICE_QUEUE, event)),
        );
        drawn.extend(rows(
            after,
            Between {
                wire: if starttls { Wire::Tls } else { Wire::Plain },
                ..between
            },
        ));
        drawn.extend(self.outcome_rows(lanes::BOB_DELIVERY, lanes::BOB_QUEUE, attempt));
        self.stage.rows(&drawn).await?;
        Ok(())
    }
}

/// Where in a dialogue the reply to the final dot is: the server's first line after the content.
fn reply_to_the_dot(dialogue: &[DialogueLine]) -> usize {
    let content = dialogue
        .iter()
        .rposition(|line| {
            line.from() == From::Client && (line.text == "." || line.text.contains("octets"))
        })
        .unwrap_or(dialogue.len());
    dialogue
        .iter()
        .enumerate()
        .skip(content)
        .find(|(_, line)| line.from() == From::Server)
        .map_or(dialogue.len(), |(at, _)| at)
}
