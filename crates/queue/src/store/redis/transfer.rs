//! Queued messages on their way out to another store, or in from one.

use std::collections::HashSet;

use bytes::Bytes;
use postrider_protocol::queue_v1::journey_event::What;
use postrider_protocol::queue_v1::{
    Attempt, ExportedDelivery, ExportedMessage, Journey, JourneyEvent, NewMessage, body,
};
use postrider_protocol::{Destination, QueueId};
use prost::Message as _;
use redis::{Cmd, Value};

use super::answer::{self, bytes, items, parsed, required, text};
use super::content;
use super::core::{Core, micros};
use super::failure::malformed;
use super::find;
use super::journey::journeys;
use super::link::Repeat;
use super::message::{MOST_TIME, Open, Progress, timed_event};
use super::part::Part;
use super::{moves, rows};
use crate::store::exported::Ended;
use crate::store::{Enqueued, StoreError};

/// Messages of one call.
const PIECE: usize = 32;

/// See [`crate::store::Store::export`]. Where there are several partitions, what one knows of a message is
/// but a part, and the journey and what has ended are told by them together.
pub(super) async fn export(
    core: &Core,
    parts: &[Part],
    after: Option<QueueId>,
    limit: usize,
) -> Result<Vec<ExportedMessage>, StoreError> {
    let mut bound = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    loop {
        let mut cmd = core.call(&core.scripts.rows);
        cmd.arg("from").arg(&bound).arg(limit);
        let answer = core
            .link
            .run(&core.scripts.rows, &cmd, Repeat::Safe)
            .await?;
        // The first is the time.
        let found: Vec<Value> = items(answer, "rows")?.into_iter().skip(1).collect();
        let Some(last) = rows::last(&found)? else {
            return Ok(Vec::new());
        };
        bound = format!("({last}");
        let rows = moves::without_arrived(parts, found).await?.into_iter();
        let rows: Vec<Row> = rows.map(Row::new).collect::<Result<_, _>>()?;
        let ids: Vec<QueueId> = rows.iter().map(|row| row.id).collect();
        let messages = content::read(core, &ids).await?;
        let journeys = match parts {
            [] => journeys(core, &ids).await?,
            _ => vec![None; ids.len()],
        };
        let mut exported = Vec::with_capacity(rows.len());
        for ((row, message), journey) in rows.into_iter().zip(messages).zip(journeys) {
            match message {
                Some(message) => exported.push(row.with(message, journey)),
                None => {
                    tracing::error!(queue_id = %row.id, "a queued message's content is missing, and it is not exported");
                    crate::metrics::damaged_record();
                }
            }
        }
        if !exported.is_empty() {
            return Ok(exported);
        }
    }
}

/// A message as the script finds it.
struct Row {
    id: QueueId,
    accepted_us: u64,
    deliveries: Vec<ExportedDelivery>,
}

impl Row {
    fn new(row: Value) -> Result<Self, StoreError> {
        let mut fields = items(row, "a message")?.into_iter();
        let id = required(fields.next(), "a queue id")?;
        let accepted_us = required(fields.next(), "the time of acceptance")?;
        Ok(Self {
            id,
            accepted_us,
            // The time before which it is not attempted is in the message.
            deliveries: fields.skip(1).map(delivery).collect::<Result<_, _>>()?,
        })
    }

    fn with(self, mut message: NewMessage, journey: Option<Journey>) -> ExportedMessage {
        message.events.clear();
        let journey = journey.unwrap_or_default().events;
        let ended = Ended::count(&message, &self.deliveries, &journey);
        ExportedMessage {
            message: Some(message),
            accepted_us: self.accepted_us,
            deliveries: self.deliveries,
            journey,
            delivered: ended.delivered,
            failed: ended.failed,
            removed: ended.removed,
        }
    }
}

fn delivery(fields: Value) -> Result<ExportedDelivery, StoreError> {
    let mut fields = items(fields, "a delivery")?.into_iter();
    let number = required(fields.next(), "a delivery's number")?;
    let open =
        bytes(fields.next(), "the recipients")?.ok_or_else(|| malformed("the recipients"))?;
    let progress = Progress::parse(bytes(fields.next(), "the attempts")?.as_deref())?;
    let kept = bytes(fields.next(), "the outcomes")?.unwrap_or_default();
    let state = text(fields.next(), "a state")?;
    let due_us: Option<u64> = parsed(fields.next(), "a due time")?;
    let held_until_us: Option<u64> = parsed(fields.nth(1), "the end of a hold")?;
    let open = Open::parse(&open)?;
    let kept = Attempt::decode(kept).map_err(|_| malformed("the outcomes"))?;
    let held = state.as_deref() == Some("h");
    Ok(ExportedDelivery {
        number,
        destination: open.destination.to_owned(),
        recipients: open.addresses.iter().map(|to| (*to).to_owned()).collect(),
        attempts: progress.attempts,
        due_us: due_us.unwrap_or_default(),
        held,
        held_until_us: held_until_us.filter(|_| held).unwrap_or(0),
        bounce: progress.bounce,
        last_outcomes: open.last_outcomes(&kept.outcomes),
        unknown_attempts: progress.unknown,
        delay_warned: progress.warned,
    })
}

/// How many events tell of the time before a message was queued, and that it was: every partition has
/// these.
pub(super) fn beginning(events: &[JourneyEvent]) -> usize {
    let queued = |event: &JourneyEvent| matches!(&event.what, Some(What::Queued(_)));
    events.iter().position(queued).map_or(0, |at| at + 1)
}

/// Has a partition know a message of which it has nothing.
pub(super) async fn remember(core: &Core, exported: &ExportedMessage) -> Result<(), StoreError> {
    let Some(message) = &exported.message else {
        return Ok(());
    };
    let destinations = exported.deliveries.iter().map(|it| &it.destination);
    let lifetimes = destinations.map(|to| core.policy(to).lifetime);
    let longest = lifetimes.max().map_or(0, micros);
    let begins = exported.accepted_us.max(message.release_us).min(MOST_TIME);
    let header = Journey {
        message_id: message.message_id.clone(),
        ..Journey::default()
    };
    let mut cmd = core.call(&core.scripts.remember);
    cmd.arg(&message.queue_id)
        .arg(begins.saturating_add(longest).min(MOST_TIME))
        .arg(header.encode_to_vec());
    for event in &exported.journey[..beginning(&exported.journey)] {
        cmd.arg(timed_event(event).as_ref());
    }
    let remembered = core.safe.run(&core.scripts.remember, &cmd, Repeat::Safe);
    remembered.await.map(drop)
}

/// See [`crate::store::Store::import`].
pub(super) async fn import(
    core: &Core,
    messages: Vec<ExportedMessage>,
) -> Vec<Result<Enqueued, StoreError>> {
    let mut results = Vec::with_capacity(messages.len());
    let mut arrivals = Vec::new();
    for exported in messages {
        match Arrival::new(exported) {
            Ok(arrival) => {
                arrivals.push((results.len(), arrival));
                results.push(Err(StoreError::Unavailable(String::new())));
            }
            Err(error) => results.push(Err(error)),
        }
    }
    for piece in arrivals.chunks(PIECE) {
        let answers = give(core, piece).await;
        for (at, (place, _)) in piece.iter().enumerate() {
            results[*place] = match &answers {
                Ok(answers) => match answers.get(at) {
                    Some(1) => Ok(Enqueued::Accepted),
                    Some(0) => Ok(Enqueued::AlreadyAccepted),
                    _ => Err(StoreError::Unavailable(
                        "Redis did not take the content".to_owned(),
                    )),
                },
                Err(error) => Err(error.clone()),
            };
        }
    }
    results
}

async fn give(core: &Core, piece: &[(usize, Arrival)]) -> Result<Vec<i64>, StoreError> {
    let mut cmd = core.call(&core.scripts.import);
    cmd.arg(piece.len());
    for arg in piece.iter().flat_map(|(_, arrival)| &arrival.args) {
        cmd.arg(arg.as_ref());
    }
    let contents = piece
        .iter()
        .map(|(_, arrival)| content::write(core, arrival.id, &arrival.content));
    let commands: Vec<Cmd> = contents.chain([cmd]).collect();
    let answer = core.safe.run_last(&core.scripts.import, commands).await?;
    answer::numbers(answer, piece.len(), "import")
}

/// A message from elsewhere as the script's arguments.
struct Arrival {
    id: QueueId,
    content: Bytes,
    args: Vec<Bytes>,
}

impl Arrival {
    fn new(exported: ExportedMessage) -> Result<Self, StoreError> {
        let invalid = |what: &str| StoreError::Invalid(what.to_owned());
        let mut message = exported.message.ok_or_else(|| invalid("no message"))?;
        let id: QueueId = message
            .queue_id
            .parse()
            .map_err(|_| invalid("the queue id is malformed"))?;
        message.events.clear();
        if exported.deliveries.is_empty() {
            return Err(invalid("no recipient is open"));
        }
        let names = find::names(id, &message);
        let envelope = message
            .envelope
            .as_ref()
            .ok_or_else(|| invalid("no envelope"))?;
        let destinations: HashSet<&str> = envelope
            .recipients
            .iter()
            .map(|to| to.destination.as_str())
            .collect();
        let header = Journey {
            message_id: message.message_id.clone(),
            ..Journey::default()
        };
        let fixed = [
            envelope.reverse_path.clone(),
            message.tenant.clone(),
            message.priority.clamp(-9, 9).to_string(),
            message.release_us.min(MOST_TIME).to_string(),
            exported.accepted_us.min(MOST_TIME).to_string(),
            destinations.len().to_string(),
            exported.delivered.to_string(),
            exported.failed.to_string(),
            exported.removed.to_string(),
        ];
        let body = message.body.as_mut().ok_or_else(|| invalid("no body"))?;
        let (inline, stored) = match body.content.take() {
            Some(body::Content::Inline(inline)) => (inline, String::new()),
            Some(body::Content::Stored(name)) => {
                body.content = Some(body::Content::Stored(name.clone()));
                (Bytes::new(), name)
            }
            None => return Err(invalid("the body has no content")),
        };
        let content = content::encode(&message, &inline);
        let mut args: Vec<Bytes> = vec![
            id.to_string().into(),
            content.len().to_string().into(),
            stored.into(),
        ];
        args.extend(fixed.map(Bytes::from));
        args.push(names.len().to_string().into());
        args.extend(names);
        args.push((exported.journey.len() + 1).to_string().into());
        args.push(header.encode_to_vec().into());
        args.extend(exported.journey.iter().map(timed_event));
        args.push(exported.deliveries.len().to_string().into());
        for delivery in exported.deliveries {
            add_delivery(&mut args, delivery)?;
        }
        Ok(Self { id, content, args })
    }
}

fn add_delivery(args: &mut Vec<Bytes>, delivery: ExportedDelivery) -> Result<(), StoreError> {
    let is_line =
        |address: &String| !address.is_empty() && address.bytes().all(|byte| byte >= b' ');
    if delivery.destination.parse::<Destination>().is_err()
        || delivery.recipients.is_empty()
        || !delivery.recipients.iter().all(is_line)
    {
        let number = delivery.number;
        return Err(StoreError::Invalid(format!(
            "delivery {number} has no proper destination or recipients"
        )));
    }
    let progress = Progress {
        attempts: delivery.attempts,
        bounce: delivery.bounce,
        warned: delivery.delay_warned,
        unknown: delivery.unknown_attempts,
    };
    let kept = Attempt {
        outcomes: delivery.last_outcomes,
        ..Attempt::default()
    };
    let line = format!(
        "{}\n{}",
        delivery.destination,
        delivery.recipients.join("\n")
    );
    args.extend([
        Bytes::from(delivery.number.to_string()),
        delivery.destination.into(),
        delivery.recipients.len().to_string().into(),
        line.into(),
        progress.to_string().into(),
        kept.encode_to_vec().into(),
        delivery.due_us.min(MOST_TIME).to_string().into(),
        match delivery.held {
            true => delivery.held_until_us.min(MOST_TIME).to_string().into(),
            false => Bytes::new(),
        },
    ]);
    Ok(())
}
