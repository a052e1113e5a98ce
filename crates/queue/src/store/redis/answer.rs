//! Taking answers apart.

use std::str::FromStr;

use bytes::Bytes;
use redis::Value;

use super::failure::malformed;
use crate::store::StoreError;

/// An array's items.
pub(super) fn items(value: Value, what: &str) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(malformed(what)),
    }
}

/// A string of bytes, or `None` for nil. Not copied.
pub(super) fn bytes(value: Option<Value>, what: &str) -> Result<Option<Bytes>, StoreError> {
    match value {
        Some(Value::BulkString(bytes)) => Ok(Some(bytes.into())),
        Some(Value::Nil) | None => Ok(None),
        Some(_) => Err(malformed(what)),
    }
}

/// Text, or `None` for nil.
pub(super) fn text(value: Option<Value>, what: &str) -> Result<Option<String>, StoreError> {
    match value {
        Some(Value::BulkString(bytes)) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| malformed(what)),
        Some(Value::Nil) | None => Ok(None),
        Some(_) => Err(malformed(what)),
    }
}

/// Something that is written as text or is a number.
pub(super) fn parsed<T: FromStr>(
    value: Option<Value>,
    what: &str,
) -> Result<Option<T>, StoreError> {
    let text = match value {
        Some(Value::Int(number)) => number.to_string(),
        other => match text(other, what)? {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    text.parse().map(Some).map_err(|_| malformed(what))
}

/// As [`parsed`], where nil is not expected.
pub(super) fn required<T: FromStr>(value: Option<Value>, what: &str) -> Result<T, StoreError> {
    parsed(value, what)?.ok_or_else(|| malformed(what))
}

/// One number for each thing that was asked about.
pub(super) fn numbers(value: Value, expected: usize, what: &str) -> Result<Vec<i64>, StoreError> {
    let numbers: Vec<i64> = items(value, what)?
        .into_iter()
        .map(|item| required(Some(item), what))
        .collect::<Result<_, _>>()?;
    if numbers.len() == expected {
        Ok(numbers)
    } else {
        Err(malformed(what))
    }
}
