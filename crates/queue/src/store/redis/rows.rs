//! Reading what is queued: list and show.

use postrider_protocol::queue_v1::{
    Attempt, DeliveryStatus, Filter, NewMessage, ShowResponse, Suspension, delivery_status::State,
};
use postrider_protocol::{DeliveryId, QueueId};
use prost::Message as _;
use redis::Value;

use super::answer::{bytes, items, parsed, required, text};
use super::content;
use super::core::{Core, micros};
use super::failure::malformed;
use super::link::Repeat;
use super::message::{Open, Progress};
use super::part::Part;
use super::{moves, suspension};
use crate::store::StoreError;
use crate::store::filter::{Matcher, suspends};

/// Messages of one read.
const PIECE: usize = 100;

/// A queued message and its open deliveries.
pub(super) struct Row {
    id: QueueId,
    message: NewMessage,
    accepted_us: u64,
    pub(super) deliveries: Vec<(DeliveryId, DeliveryStatus)>,
}

/// Goes through queued messages in the order of their ids.
pub(super) struct Rows<'a> {
    core: &'a Core,
    /// All partitions, if there are several.
    parts: &'a [Part],
    suspensions: Vec<Suspension>,
    place: Place,
}

enum Place {
    /// All messages from this bound (of ZRANGEBYLEX) on.
    From(String),
    /// These, in reverse.
    Ids(Vec<QueueId>),
    End,
}

impl<'a> Rows<'a> {
    /// What a filter could match, beginning with the message of `after`.
    async fn new(
        core: &'a Core,
        parts: &'a [Part],
        matcher: &Matcher,
        after: Option<DeliveryId>,
    ) -> Result<Self, StoreError> {
        let from = after.map(|after| after.queue_id);
        let place = if matcher.ids.is_empty() {
            Place::From(from.map_or_else(|| "-".to_owned(), |id| format!("[{id}")))
        } else {
            let ids = matcher.ids.iter().copied();
            let mut ids: Vec<QueueId> = ids
                .filter(|id| from.is_none_or(|from| *id >= from))
                .collect();
            ids.sort_unstable();
            ids.reverse();
            Place::Ids(ids)
        };
        Self::at(core, parts, place).await
    }

    async fn at(core: &'a Core, parts: &'a [Part], place: Place) -> Result<Self, StoreError> {
        Ok(Self {
            core,
            parts,
            suspensions: suspension::all(core).await?,
            place,
        })
    }

    /// The next messages, or `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        let mut cmd = self.core.call(&self.core.scripts.rows);
        match &mut self.place {
            Place::End => return Ok(None),
            Place::From(bound) => {
                cmd.arg("from").arg(bound.as_str()).arg(PIECE);
            }
            Place::Ids(ids) => {
                if ids.is_empty() {
                    return Ok(None);
                }
                cmd.arg("ids");
                for id in ids.split_off(ids.len().saturating_sub(PIECE)).iter().rev() {
                    cmd.arg(id.to_string());
                }
            }
        }
        let answer = self
            .core
            .link
            .run(&self.core.scripts.rows, &cmd, Repeat::Safe)
            .await?;
        let mut answer = items(answer, "rows")?.into_iter();
        let now_us = required(answer.next(), "the time")?;
        let rows: Vec<Value> = answer.collect();
        if let Place::From(bound) = &mut self.place {
            match last(&rows)? {
                Some(last) => *bound = format!("({last}"),
                None => self.place = Place::End,
            }
        }
        let rows = moves::without_arrived(self.parts, rows).await?.into_iter();
        let rows: Vec<Found> = rows.map(Found::new).collect::<Result<_, _>>()?;
        let ids: Vec<QueueId> = rows.iter().map(|row| row.id).collect();
        let records = content::read_records(self.core, &ids).await?;
        let rows = rows.into_iter().zip(records);
        // What has no record any more has ended in between.
        rows.filter_map(|(row, record)| record.map(|record| row.with(self, now_us, record)))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// The message of the last row.
pub(super) fn last(rows: &[Value]) -> Result<Option<QueueId>, StoreError> {
    match rows.last() {
        None => Ok(None),
        Some(Value::Array(row)) => required(row.first().cloned(), "a queue id").map(Some),
        Some(_) => Err(malformed("a message")),
    }
}

/// A message as the script finds it.
struct Found {
    id: QueueId,
    accepted_us: u64,
    release_us: u64,
    deliveries: Vec<Value>,
}

impl Found {
    fn new(row: Value) -> Result<Self, StoreError> {
        let mut fields = items(row, "a message")?.into_iter();
        Ok(Self {
            id: required(fields.next(), "a queue id")?,
            accepted_us: required(fields.next(), "the time of acceptance")?,
            release_us: parsed(fields.next(), "the time of release")?.unwrap_or(0),
            deliveries: fields.collect(),
        })
    }

    fn with(self, rows: &Rows<'_>, now_us: u64, message: NewMessage) -> Result<Row, StoreError> {
        let envelope = message.envelope.as_ref();
        // What all deliveries have in common.
        let common = DeliveryStatus {
            queue_id: self.id.to_string(),
            reverse_path: envelope
                .map(|envelope| envelope.reverse_path.clone())
                .unwrap_or_default(),
            tenant: message.tenant.clone(),
            priority: message.priority,
            accepted_us: self.accepted_us,
            size: message.body.as_ref().map_or(0, |body| body.size),
            ..DeliveryStatus::default()
        };
        let begins_us = self.accepted_us.max(self.release_us);
        let deliveries = self.deliveries.into_iter().map(|fields| {
            let (number, mut status) = delivery(&common, now_us, fields)?;
            let policy = rows.core.policy(&status.destination);
            status.expires_us = begins_us.saturating_add(micros(policy.lifetime));
            let stops = rows.suspensions.iter().filter(|suspension| {
                suspends(
                    suspension,
                    &status.destination,
                    &status.reverse_path,
                    &status.tenant,
                )
            });
            let stops: Vec<String> = stops.map(|suspension| suspension.id.clone()).collect();
            if status.state() == State::Waiting && !stops.is_empty() {
                status.set_state(State::Suspended);
                status.suspensions = stops;
            }
            let id = DeliveryId {
                queue_id: self.id,
                number,
            };
            status.delivery_id = id.to_string();
            Ok((id, status))
        });
        Ok(Row {
            id: self.id,
            deliveries: deliveries.collect::<Result<_, StoreError>>()?,
            message,
            accepted_us: self.accepted_us,
        })
    }
}

/// A delivery's number and what the script says of it.
fn delivery(
    common: &DeliveryStatus,
    now_us: u64,
    fields: Value,
) -> Result<(u32, DeliveryStatus), StoreError> {
    let mut fields = items(fields, "a delivery")?.into_iter();
    let number = required(fields.next(), "a delivery's number")?;
    let open =
        bytes(fields.next(), "the recipients")?.ok_or_else(|| malformed("the recipients"))?;
    let progress = Progress::parse(bytes(fields.next(), "the attempts")?.as_deref())?;
    let kept = bytes(fields.next(), "the outcomes")?.unwrap_or_default();
    let state = text(fields.next(), "a state")?;
    let next_attempt_us: Option<u64> = parsed(fields.next(), "a due time")?;
    let worker = text(fields.next(), "a worker")?.unwrap_or_default();
    let held_until_us: u64 = parsed(fields.next(), "the end of a hold")?.unwrap_or(0);
    let state = match state.as_deref() {
        Some("l") => State::Leased,
        // A hold whose time is over has ended, even if that is still to be carried out.
        Some("h") if held_until_us == 0 || held_until_us > now_us => State::Held,
        Some("w" | "h") => State::Waiting,
        _ => return Err(malformed("a state")),
    };
    let open = Open::parse(&open)?;
    let kept = Attempt::decode(kept).map_err(|_| malformed("the outcomes"))?;
    let status = DeliveryStatus {
        destination: open.destination.to_owned(),
        recipients: open
            .addresses
            .iter()
            .map(|address| (*address).to_owned())
            .collect(),
        state: state.into(),
        attempts: progress.attempts,
        next_attempt_us: next_attempt_us.unwrap_or_default(),
        last_outcomes: open.last_outcomes(&kept.outcomes),
        worker,
        unknown_attempts: progress.unknown,
        held_until_us: if state == State::Held {
            held_until_us
        } else {
            0
        },
        ..common.clone()
    };
    Ok((number, status))
}

pub(super) async fn list(
    core: &Core,
    parts: &[Part],
    filter: &Filter,
    after: Option<DeliveryId>,
    limit: usize,
) -> Result<Vec<DeliveryStatus>, StoreError> {
    let matcher = Matcher::new(filter)?;
    let mut found = Vec::new();
    let mut rows = Rows::new(core, parts, &matcher, after).await?;
    while found.len() < limit
        && let Some(piece) = rows.next().await?
    {
        let deliveries = piece.into_iter().flat_map(|row| row.deliveries);
        let matching = deliveries
            .filter(|(id, status)| after.is_none_or(|after| *id > after) && matcher.matches(status))
            .map(|(_, status)| status);
        found.extend(matching.take(limit - found.len()));
    }
    Ok(found)
}

pub(super) async fn show(
    core: &Core,
    parts: &[Part],
    id: QueueId,
) -> Result<Option<ShowResponse>, StoreError> {
    let mut rows = Rows::at(core, parts, Place::Ids(vec![id])).await?;
    let rows = rows.next().await?;
    let row = rows.and_then(|rows| rows.into_iter().next());
    Ok(row.map(|row| ShowResponse {
        queue_id: row.id.to_string(),
        message_id: row.message.message_id,
        size: row.message.body.map_or(0, |body| body.size),
        envelope: row.message.envelope,
        origin: row.message.origin,
        accepted_us: row.accepted_us,
        deliveries: row
            .deliveries
            .into_iter()
            .map(|(_, status)| status)
            .collect(),
    }))
}
