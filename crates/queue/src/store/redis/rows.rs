//! Reading what is queued: list and show.

use postrider_protocol::queue_v1::{
    Attempt, DeliveryStatus, Filter, NewMessage, ShowResponse, delivery_status::State,
};
use postrider_protocol::{DeliveryId, QueueId};
use prost::Message as _;
use redis::Value;

use super::answer::{bytes, items, parsed, required, text};
use super::core::Core;
use super::failure::malformed;
use super::link::Repeat;
use super::message::{Open, Progress};
use crate::store::StoreError;

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
    pub(super) fn new(core: &'a Core, filter: &Filter, after: Option<DeliveryId>) -> Self {
        let from = after.map(|after| after.queue_id);
        let place = if filter.queue_ids.is_empty() {
            Place::From(from.map_or_else(|| "-".to_owned(), |id| format!("[{id}")))
        } else {
            // What is no queue id matches nothing.
            let ids = filter.queue_ids.iter().filter_map(|id| id.parse().ok());
            let mut ids: Vec<QueueId> = ids
                .filter(|id| from.is_none_or(|from| *id >= from))
                .collect();
            ids.sort_unstable();
            ids.dedup();
            ids.reverse();
            Place::Ids(ids)
        };
        Self { core, place }
    }

    /// One message by its id.
    fn one(core: &'a Core, id: QueueId) -> Self {
        Self {
            core,
            place: Place::Ids(vec![id]),
        }
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
        let rows = items(answer, "rows")?
            .into_iter()
            .map(|row| row_of(self.core, row))
            .collect::<Result<Vec<Row>, _>>()?;
        if let Place::From(bound) = &mut self.place {
            match rows.last() {
                Some(last) => *bound = format!("({}", last.id),
                None => self.place = Place::End,
            }
        }
        Ok(Some(rows))
    }
}

fn row_of(core: &Core, row: Value) -> Result<Row, StoreError> {
    let mut fields = items(row, "a message")?.into_iter();
    let id: QueueId = required(fields.next(), "a queue id")?;
    let record = bytes(fields.next(), "a message")?.ok_or_else(|| malformed("a message"))?;
    let accepted_us = required(fields.next(), "the time of acceptance")?;
    let message = NewMessage::decode(record).map_err(|_| malformed("a message"))?;
    let deliveries = fields
        .map(|fields| delivery(core, id, &message, accepted_us, fields))
        .collect::<Result<_, _>>()?;
    Ok(Row {
        id,
        message,
        accepted_us,
        deliveries,
    })
}

fn delivery(
    core: &Core,
    queue_id: QueueId,
    message: &NewMessage,
    accepted_us: u64,
    fields: Value,
) -> Result<(DeliveryId, DeliveryStatus), StoreError> {
    let mut fields = items(fields, "a delivery")?.into_iter();
    let number = required(fields.next(), "a delivery's number")?;
    let open =
        bytes(fields.next(), "the recipients")?.ok_or_else(|| malformed("the recipients"))?;
    let progress = Progress::parse(bytes(fields.next(), "the attempts")?.as_deref())?;
    let kept = bytes(fields.next(), "the outcomes")?.unwrap_or_default();
    let state = match text(fields.next(), "a state")?.as_deref() {
        Some("w") => State::Waiting,
        Some("l") => State::Leased,
        Some("h") => State::Held,
        _ => return Err(malformed("a state")),
    };
    let next_attempt_us: Option<u64> = parsed(fields.next(), "a due time")?;
    let worker = text(fields.next(), "a worker")?.unwrap_or_default();

    let open = Open::parse(&open)?;
    let kept = Attempt::decode(kept).map_err(|_| malformed("the outcomes"))?;
    let id = DeliveryId { queue_id, number };
    let envelope = message.envelope.as_ref();
    let status = DeliveryStatus {
        delivery_id: id.to_string(),
        queue_id: queue_id.to_string(),
        destination: open.destination.to_owned(),
        reverse_path: envelope
            .map(|envelope| envelope.reverse_path.clone())
            .unwrap_or_default(),
        recipients: open
            .addresses
            .iter()
            .map(|address| (*address).to_owned())
            .collect(),
        state: state.into(),
        attempts: progress.attempts,
        accepted_us,
        next_attempt_us: next_attempt_us.unwrap_or_default(),
        expires_us: accepted_us.saturating_add(core.lifetime_us()),
        last_outcomes: open.last_outcomes(&kept.outcomes),
        size: message.body.as_ref().map_or(0, |body| body.size),
        worker,
    };
    Ok((id, status))
}

/// Whether a delivery is what a filter asks for.
pub(super) fn matches(filter: &Filter, status: &DeliveryStatus) -> bool {
    let sender = match filter.sender.as_str() {
        "" => true,
        "<>" => status.reverse_path.is_empty(),
        sender => status.reverse_path.eq_ignore_ascii_case(sender),
    };
    sender
        && (filter.destination.is_empty() || filter.destination == status.destination)
        && (filter.recipient.is_empty()
            || status
                .recipients
                .iter()
                .any(|recipient| recipient.eq_ignore_ascii_case(&filter.recipient)))
        && (!filter.held || status.state() == State::Held)
}

pub(super) async fn list(
    core: &Core,
    filter: &Filter,
    after: Option<DeliveryId>,
    limit: usize,
) -> Result<Vec<DeliveryStatus>, StoreError> {
    let mut found = Vec::new();
    let mut rows = Rows::new(core, filter, after);
    while found.len() < limit
        && let Some(piece) = rows.next().await?
    {
        let deliveries = piece.into_iter().flat_map(|row| row.deliveries);
        let matching = deliveries
            .filter(|(id, status)| after.is_none_or(|after| *id > after) && matches(filter, status))
            .map(|(_, status)| status);
        found.extend(matching.take(limit - found.len()));
    }
    Ok(found)
}

pub(super) async fn show(core: &Core, id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
    let rows = Rows::one(core, id).next().await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_what_they_say() {
        let status = DeliveryStatus {
            reverse_path: "Ann@Example.org".to_owned(),
            recipients: vec!["bob@here.test".to_owned()],
            destination: "mailbox:here.test".to_owned(),
            state: State::Held.into(),
            ..DeliveryStatus::default()
        };
        let filter = |set: fn(&mut Filter)| {
            let mut filter = Filter::default();
            set(&mut filter);
            matches(&filter, &status)
        };
        assert!(filter(|_| ()));
        assert!(filter(|filter| filter.sender = "ann@example.org".to_owned()));
        assert!(!filter(|filter| filter.sender = "<>".to_owned()));
        assert!(filter(
            |filter| filter.recipient = "BOB@here.test".to_owned()
        ));
        assert!(!filter(
            |filter| filter.recipient = "eve@here.test".to_owned()
        ));
        assert!(!filter(
            |filter| filter.destination = "smtp:here.test".to_owned()
        ));
        assert!(filter(|filter| filter.held = true));
    }
}
