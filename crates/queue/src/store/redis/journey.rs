//! Journeys, and finding messages by Message-ID.

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{Journey, JourneyEvent, journey_event};
use prost::Message as _;
use redis::{Value, cmd};

use super::answer::{bytes, items, required};
use super::core::Core;
use super::failure::malformed;
use super::keys::key;
use super::link::Repeat;
use crate::store::StoreError;

pub(super) async fn journey(core: &Core, id: QueueId) -> Result<Option<Journey>, StoreError> {
    let mut read = cmd("LRANGE");
    read.arg(key(&format!("j:{id}"))).arg(0).arg(-1);
    let mut lines = items(core.link.query(&read).await?, "a journey")?.into_iter();
    let Some(header) = bytes(lines.next(), "a journey")? else {
        return Ok(None);
    };
    let mut exists = cmd("EXISTS");
    exists.arg(key(&format!("m:{id}")));
    let queued: i64 = required(Some(core.link.query(&exists).await?), "exists")?;
    let mut journey = Journey::decode(header).map_err(|_| malformed("a journey"))?;
    journey.ended = queued == 0;
    for line in lines {
        let line = bytes(Some(line), "an event")?.unwrap_or_default();
        journey.events.push(event(line)?);
    }
    Ok(Some(journey))
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

pub(super) async fn find(
    core: &Core,
    message_id: &str,
    limit: usize,
) -> Result<Vec<QueueId>, StoreError> {
    let mut cmd = core.call(&core.scripts.find);
    cmd.arg(message_id).arg(limit);
    let answer = core
        .link
        .run(&core.scripts.find, &cmd, Repeat::Safe)
        .await?;
    items(answer, "find")?
        .into_iter()
        .map(|id: Value| required(Some(id), "a queue id"))
        .collect()
}
