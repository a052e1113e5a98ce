//! What a message consists of: its record and its inline body, in one value beside the scripts.
//!
//! Redis hands a script's arguments and answers through Lua, which copies and hashes each byte of
//! them. So the content of messages goes around the scripts: plain commands write it in one
//! transaction with the script that accepts it, and read it after the script that leases it. The instance
//! that accepted a message has it in memory for a while and reads nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{NewMessage, body};
use prost::Message as _;
use redis::{Cmd, cmd};

use super::answer::{bytes, items};
use super::core::Core;
use super::failure::malformed;
use crate::store::StoreError;

/// Beside its body, about what a message takes in memory.
const RECORD: usize = 512;
/// Length of the record, before it.
const PREFIX: usize = 4;
/// A record is rarely longer than this: what is read where the body is not wanted.
const HEAD: usize = 1024;

fn name(core: &Core, id: QueueId) -> String {
    core.key(&format!("b:{id}"))
}

/// The value: length of the record, the record (without its inline body), the inline body.
pub(super) fn encode(record: &NewMessage, inline: &Bytes) -> Bytes {
    let length = record.encoded_len();
    let mut value = BytesMut::with_capacity(PREFIX + length + inline.len());
    value.put_u32(length as u32);
    value.put(record.encode_to_vec().as_slice());
    value.put(inline.as_ref());
    value.freeze()
}

fn split(value: &Bytes) -> Option<(Bytes, Bytes)> {
    let length = u32::from_be_bytes(value.get(..PREFIX)?.try_into().ok()?) as usize;
    let end = PREFIX.checked_add(length)?;
    (end <= value.len()).then(|| (value.slice(PREFIX..end), value.slice(end..)))
}

/// The message that a value holds.
pub(super) fn decode(value: &Bytes) -> Result<NewMessage, StoreError> {
    let (record, inline) = split(value).ok_or_else(|| malformed("a message"))?;
    let mut message = NewMessage::decode(record).map_err(|_| malformed("a message"))?;
    if let Some(body) = &mut message.body
        && body.content.is_none()
    {
        body.content = Some(body::Content::Inline(inline));
    }
    Ok(message)
}

/// Writes contents that a script in the same transaction accepts: all, unless one of them is there
/// already, since what was accepted before stays as it is.
pub(super) fn write_all<'a>(
    core: &Core,
    contents: impl Iterator<Item = (QueueId, &'a Bytes)>,
) -> Cmd {
    let mut write = cmd("MSETNX");
    for (id, value) in contents {
        write.arg(name(core, id)).arg(value.as_ref());
    }
    write
}

/// As [`write_all`] for one.
pub(super) fn write(core: &Core, id: QueueId, value: &Bytes) -> Cmd {
    write_all(core, std::iter::once((id, value)))
}

/// Reads messages with their bodies; `None` for what is not there or cannot be read.
pub(super) async fn read(
    core: &Core,
    ids: &[QueueId],
) -> Result<Vec<Option<NewMessage>>, StoreError> {
    let values = read_raw(core, ids).await?.into_iter();
    Ok(values.map(|value| decode(&value?).ok()).collect())
}

/// Reads values as they are; `None` for what is not there.
pub(super) async fn read_raw(
    core: &Core,
    ids: &[QueueId],
) -> Result<Vec<Option<Bytes>>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut read = cmd("MGET");
    for id in ids {
        read.arg(name(core, *id));
    }
    let values = items(core.link.query(&read).await?, "messages")?;
    if values.len() != ids.len() {
        return Err(malformed("messages"));
    }
    let values = values.into_iter();
    Ok(values
        .map(|value| bytes(Some(value), "a message").ok()?)
        .collect())
}

/// Reads records without inline bodies; `None` for what is not there.
pub(super) async fn read_records(
    core: &Core,
    ids: &[QueueId],
) -> Result<Vec<Option<NewMessage>>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let range = |id: &QueueId, last: usize| {
        let mut range = cmd("GETRANGE");
        range.arg(name(core, *id)).arg(0).arg(last);
        range
    };
    let heads: Vec<Cmd> = ids.iter().map(|id| range(id, HEAD - 1)).collect();
    let mut records = Vec::with_capacity(ids.len());
    for (id, head) in ids.iter().zip(core.link.query_all(&heads).await?) {
        let mut head = bytes(Some(head), "a message")?.unwrap_or_default();
        if let Some(length) = head.get(..PREFIX) {
            let end = PREFIX
                + length
                    .iter()
                    .fold(0, |all, byte| all << 8 | usize::from(*byte));
            if end > head.len() {
                let all = core.link.query(&range(id, end - 1)).await?;
                head = bytes(Some(all), "a message")?.unwrap_or_default();
            }
        }
        // GETRANGE answers with nothing for what is not there.
        records.push(if head.is_empty() {
            None
        } else {
            let (record, _) = split(&head).ok_or_else(|| malformed("a message"))?;
            Some(NewMessage::decode(record).map_err(|_| malformed("a message"))?)
        });
    }
    Ok(records)
}

/// Messages that this process accepted and has not handed out yet, the youngest of them, within a
/// set size.
pub(super) struct Recent {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    messages: HashMap<QueueId, (Arc<NewMessage>, usize)>,
    /// By age. May name what is gone.
    order: VecDeque<QueueId>,
}

impl Recent {
    /// Holds at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing that holds the lock can panic half-way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an accepted message that will be handed out so many times.
    pub(super) fn put(&self, id: QueueId, message: Arc<NewMessage>, deliveries: usize) {
        let mut kept = self.kept();
        kept.bytes += weight(&message);
        if let Some((old, _)) = kept.messages.insert(id, (message, deliveries)) {
            kept.bytes -= weight(&old);
        } else {
            kept.order.push_back(id);
        }
        while kept.bytes > self.most
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.remove(oldest);
        }
        // What was handed out leaves its name behind.
        if kept.order.len() > 2 * kept.messages.len() + 64 {
            let Kept {
                messages, order, ..
            } = &mut *kept;
            order.retain(|id| messages.contains_key(id));
        }
    }

    /// Hands a message out; the last time it is forgotten.
    pub(super) fn take(&self, id: QueueId) -> Option<Arc<NewMessage>> {
        let mut kept = self.kept();
        let (message, left) = kept.messages.get_mut(&id)?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Some(message.clone());
        }
        kept.remove(id)
    }
}

impl Kept {
    fn remove(&mut self, id: QueueId) -> Option<Arc<NewMessage>> {
        let (message, _) = self.messages.remove(&id)?;
        self.bytes -= weight(&message);
        Some(message)
    }
}

fn weight(message: &NewMessage) -> usize {
    let inline = match message.body.as_ref().and_then(|body| body.content.as_ref()) {
        Some(body::Content::Inline(content)) => content.len(),
        _ => 0,
    };
    let recipients = message
        .envelope
        .as_ref()
        .map_or(0, |envelope| envelope.recipients.len());
    RECORD + inline + 128 * recipients
}

#[cfg(test)]
mod tests {
    use postrider_protocol::queue_v1::Body;

    use super::*;

    fn message(size: usize) -> NewMessage {
        NewMessage {
            queue_id: QueueId::new().to_string(),
            body: Some(Body {
                size: size as u64,
                content: Some(body::Content::Inline(vec![b'x'; size].into())),
            }),
            ..NewMessage::default()
        }
    }

    #[test]
    fn content_comes_back() {
        let whole = message(10);
        let mut record = whole.clone();
        record.body.as_mut().unwrap().content = None;
        let value = encode(&record, &Bytes::from(vec![b'x'; 10]));
        assert_eq!(decode(&value).unwrap(), whole);
        for cut in 0..value.len() - 10 {
            assert!(decode(&value.slice(..cut)).is_err());
        }
    }

    #[test]
    fn the_youngest_are_kept_within_the_size() {
        let recent = Recent::new(10 * (RECORD + 100));
        let ids: Vec<QueueId> = (0..20).map(|_| QueueId::new()).collect();
        for id in &ids {
            recent.put(*id, Arc::new(message(100)), 1);
        }
        assert!(recent.take(ids[9]).is_none());
        for id in &ids[10..] {
            assert!(recent.take(*id).is_some());
            assert!(recent.take(*id).is_none());
        }
        assert_eq!(recent.kept().bytes, 0);
        recent.put(ids[0], Arc::new(message(1)), 2);
        assert!(recent.take(ids[0]).is_some() && recent.take(ids[0]).is_some());
        assert!(recent.take(ids[0]).is_none());
        for _ in 0..1000 {
            let id = QueueId::new();
            recent.put(id, Arc::new(message(1)), 1);
            recent.take(id);
        }
        assert!(recent.kept().order.len() <= 65);
    }
}
