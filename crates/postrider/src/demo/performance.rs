//! What happens in the demo, at its own speed. What is drawn of it, and when, is the story's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::{
    Attempt, DialogueLine, JourneyEvent, OutcomeKind, journey_event::What,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fetch::{self, Fetched};
use super::submit::{self, Accepted};
use super::world::{People, World};

/// A step that takes longer than this does not work.
const PATIENCE: Duration = Duration::from_secs(20);

/// A performance that goes on by itself, and what can be heard of it.
pub(super) struct Performance {
    /// The lines of Bob's mail program, until it has hung up.
    pub(super) bob: mpsc::UnboundedReceiver<DialogueLine>,
    /// The lines of Alice's mail program.
    pub(super) alice: mpsc::UnboundedReceiver<DialogueLine>,
    /// What the servers did, in order. It ends early if something went wrong.
    pub(super) milestones: mpsc::UnboundedReceiver<Milestone>,
    /// The end, good or bad.
    pub(super) end: JoinHandle<anyhow::Result<Seen>>,
}

/// What a server did.
pub(super) enum Milestone {
    /// Bob's queue took the message.
    Queued(JourneyEvent),
    /// Bob's server made an attempt at Alice's, and what her queue did then, if it got that far.
    Relayed(Attempt, Option<JourneyEvent>),
    /// Alice's server made an attempt at her mailbox.
    Kept(Attempt),
}

/// What was seen, for the verdict.
pub(super) struct Seen {
    /// Bob's side of the submission.
    pub(super) accepted: Accepted,
    /// Bob's server to Alice's server.
    pub(super) relayed: Attempt,
    /// Alice's side of the fetching.
    pub(super) fetched: Fetched,
    /// The queue id at Alice's server.
    pub(super) alices_queue_id: String,
}

/// Lets the message go from Bob to Alice. Lines are told with their time since `clock`.
pub(super) fn begin(
    world: &World,
    people: People,
    content: Vec<u8>,
    message_id: String,
    clock: Instant,
) -> Performance {
    let (bob_tells, bob) = mpsc::unbounded_channel();
    let (alice_tells, alice) = mpsc::unbounded_channel();
    let (reached, milestones) = mpsc::unbounded_channel();
    let (bobs, alices) = (world.bob.admin(), world.alice.admin());
    let end = tokio::spawn(async move {
        let to = people.alice.address.clone();
        let accepted = submit::submit(people.bob, &to, &content, clock, bob_tells)
            .await
            .context("Bob could not hand his message in")?;
        let (_, queued) = find(&*bobs, &accepted.queue_id)
            .await
            .context("Bob's queue knows nothing of the message that it accepted")?;
        // The story may have ended early; the performance finds its own end.
        reached.send(Milestone::Queued(queued)).ok();

        let relayed = next_attempt(&bobs, &accepted.queue_id)
            .await
            .context("Bob's server did not hand the message on")?;
        let at_alices = find(&*alices, &message_id).await;
        let queued = at_alices.as_ref().ok().map(|(_, queued)| queued.clone());
        reached
            .send(Milestone::Relayed(relayed.clone(), queued))
            .ok();
        all_delivered(&relayed)?;
        let (alices_queue_id, _) =
            at_alices.context("Alice's queue knows nothing of the message that it accepted")?;

        let kept = next_attempt(&alices, &alices_queue_id)
            .await
            .context("Alice's server did not put the message into her mailbox")?;
        reached.send(Milestone::Kept(kept.clone())).ok();
        all_delivered(&kept)?;
        let fetched = fetch::fetch(people.alice, clock, alice_tells)
            .await
            .context("Alice could not fetch the message")?;
        Ok(Seen {
            accepted,
            relayed,
            fetched,
            alices_queue_id,
        })
    });
    Performance {
        bob,
        alice,
        milestones,
        end,
    }
}

/// The queue id of a message, and the event of its being queued.
async fn find(admin: &dyn QueueAdmin, query: &str) -> anyhow::Result<(String, JourneyEvent)> {
    let journeys = admin.journey(query.to_owned()).await?.journeys;
    let journey = journeys.into_iter().next().context("no such journey")?;
    let queued = journey
        .events
        .into_iter()
        .find(|event| matches!(event.what, Some(What::Queued(_))))
        .context("it was not queued")?;
    Ok((journey.queue_id, queued))
}

async fn next_attempt(admin: &Arc<dyn QueueAdmin>, queue_id: &str) -> anyhow::Result<Attempt> {
    let mut events = admin.follow_journey(queue_id.to_owned()).await?;
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
