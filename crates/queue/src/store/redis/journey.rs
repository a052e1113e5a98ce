//! Journeys.

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{Journey, JourneyEvent, journey_event};
use prost::Message as _;
use redis::{Value, cmd};

use super::answer::{bytes, items, required};
use super::core::Core;
use super::failure::malformed;
use crate::store::StoreError;

pub(super) async fn journey(core: &Core, id: QueueId) -> Result<Option<Journey>, StoreError> {
    Ok(journeys(core, &[id]).await?.pop().flatten())
}

/// Journeys of these messages; `None` for those that are not (any more) known.
pub(super) async fn journeys(
    core: &Core,
    ids: &[QueueId],
) -> Result<Vec<Option<Journey>>, StoreError> {
    let mut reads = Vec::with_capacity(2 * ids.len());
    for id in ids {
        let mut read = cmd("LRANGE");
        read.arg(core.key(&format!("j:{id}"))).arg(0).arg(-1);
        let mut exists = cmd("EXISTS");
        exists.arg(core.key(&format!("m:{id}")));
        reads.extend([read, exists]);
    }
    let mut answers = core.link.query_all(&reads).await?.into_iter();
    let mut journeys = Vec::with_capacity(ids.len());
    for id in ids {
        let lines = answers.next().unwrap_or(Value::Nil);
        let queued = answers.next();
        let mut lines = items(lines, "a journey")?.into_iter();
        let queued: i64 = required(queued, "exists")?;
        let Some(header) = bytes(lines.next(), "a journey")? else {
            journeys.push(None);
            continue;
        };
        let mut journey = Journey::decode(header).map_err(|_| malformed("a journey"))?;
        journey.queue_id = id.to_string();
        journey.ended = queued == 0;
        for line in lines {
            let line = bytes(Some(line), "an event")?.unwrap_or_default();
            let event = event(line)?;
            if let Some(journey_event::What::Queued(queued)) = &event.what {
                journey.reverse_path.clone_from(&queued.reverse_path);
            }
            journey.events.push(event);
        }
        journeys.push(Some(journey));
    }
    Ok(journeys)
}

/// An event as it lies in the list: "time\n" or "time next-attempt delivery token attempt\n", then
/// the event itself.
fn event(line: Bytes) -> Result<JourneyEvent, StoreError> {
    let wrong = || malformed("an event");
    let end = memchr::memchr(b'\n', &line).ok_or_else(wrong)?;
    let mut event = JourneyEvent::decode(line.slice(end + 1..)).map_err(|_| wrong())?;
    let marks = std::str::from_utf8(&line[..end]).map_err(|_| wrong())?;
    let mut marks = marks.split(' ');
    let mut number = || {
        marks
            .next()
            .map(|mark| mark.parse::<u64>().map_err(|_| wrong()))
    };
    event.time_us = number().ok_or_else(wrong)??;
    if let Some(journey_event::What::Attempt(attempt)) = &mut event.what
        && let (Some(next), Some(_delivery), Some(_token), Some(made)) =
            (number(), number(), number(), number())
    {
        attempt.next_attempt_us = next?;
        attempt.number = u32::try_from(made?).unwrap_or(u32::MAX);
    }
    Ok(event)
}
