//! Small things that the service keeps.

use bytes::Bytes;
use redis::{Value, cmd};

use super::answer::{bytes, items, parsed, text};
use super::core::Core;
use super::failure::malformed;
use super::link::Repeat;
use crate::store::{Record, StoreError};

/// Bytes of a value.
const MOST: usize = 64 << 10;

fn check(kind: &str, name: &str) -> Result<(), StoreError> {
    let kind_is_good =
        (1..=32).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let name_is_good =
        (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if kind_is_good && name_is_good {
        Ok(())
    } else {
        Err(StoreError::Invalid(format!(
            "{kind:?} {name:?} is no name of a record"
        )))
    }
}

pub(super) async fn put(core: &Core, record: &Record) -> Result<bool, StoreError> {
    check(&record.kind, &record.key)?;
    if record.value.len() > MOST {
        return Err(StoreError::Invalid(format!(
            "a record of {} bytes is too large",
            record.value.len()
        )));
    }
    let mut put = core.call(&core.scripts.put_record);
    put.arg(&record.kind)
        .arg(&record.key)
        .arg(record.version)
        .arg(record.value.as_ref());
    let answer = core.safe.run(&core.scripts.put_record, &put, Repeat::Safe);
    match parsed(Some(answer.await?), "a record")? {
        Some(1_u8) => Ok(true),
        _ => Ok(false),
    }
}

pub(super) async fn delete(core: &Core, kind: &str, name: &str) -> Result<(), StoreError> {
    check(kind, name)?;
    let mut delete = core.call(&core.scripts.delete_record);
    delete.arg(kind).arg(name);
    let script = &core.scripts.delete_record;
    core.safe.run(script, &delete, Repeat::Safe).await?;
    Ok(())
}

pub(super) async fn all(core: &Core, kind: &str) -> Result<Vec<Record>, StoreError> {
    check(kind, "all")?;
    let mut read = cmd("HGETALL");
    read.arg(core.key(&format!("records:{kind}")));
    let mut pairs = pairs(core.link.query(&read).await?)?.into_iter();
    let mut records = Vec::new();
    while let (Some(name), Some(value)) = (pairs.next(), pairs.next()) {
        let name = text(Some(name), "a record")?.unwrap_or_default();
        let value = bytes(Some(value), "a record")?.unwrap_or_default();
        records.push(record(kind, name, &value)?);
    }
    records.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(records)
}

/// Fields and values of a hash, in turn.
pub(super) fn pairs(answer: Value) -> Result<Vec<Value>, StoreError> {
    match answer {
        Value::Map(pairs) => Ok(pairs
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .collect()),
        other => items(other, "a hash"),
    }
}

/// A record lies as its version, a line feed, its value.
fn record(kind: &str, key: String, stored: &Bytes) -> Result<Record, StoreError> {
    let end = memchr::memchr(b'\n', stored).ok_or_else(|| malformed("a record"))?;
    let version = std::str::from_utf8(&stored[..end]).ok();
    Ok(Record {
        kind: kind.to_owned(),
        key,
        version: version
            .and_then(|version| version.parse().ok())
            .ok_or_else(|| malformed("a record"))?,
        value: stored.slice(end + 1..),
    })
}
