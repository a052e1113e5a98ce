//! The names of messages and deliveries.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Crockford's base 32, lower case: no letter that is mistaken for another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits at five bits a character.
const LENGTH: usize = 26;

/// The one name of a message: in the 250 reply, Received, logs, traces, DSNs and the journey.
///
/// A version 7 UUID, written as 26 characters of Crockford's base 32; it sorts by the time at
/// which it was made. Nothing but its uniqueness is relied on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(u128);

impl QueueId {
    /// A new, unique id. Ids made by one process grow strictly.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7().as_u128())
    }

    /// The id as a number, for stores.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// The id of a stored number.
    #[must_use]
    pub fn from_u128(value: u128) -> Self {
        Self(value)
    }
}

impl Default for QueueId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; LENGTH];
        let mut rest = self.0;
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no queue id or delivery id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id: 26 characters of 0-9 and a-z without i, l, o, u")]
pub struct InvalidId;

impl FromStr for QueueId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != LENGTH {
            return Err(InvalidId);
        }
        let mut value = 0_u128;
        for (at, byte) in text.bytes().enumerate() {
            let digit = ALPHABET
                .iter()
                .position(|known| *known == byte.to_ascii_lowercase())
                .ok_or(InvalidId)?;
            // 26 characters hold 130 bits: the first may use only three.
            if at == 0 && digit > 7 {
                return Err(InvalidId);
            }
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

/// A delivery's name: its message and its number in the message, `<queue id>.<n>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// The message.
    pub queue_id: QueueId,
    /// Which of the message's deliveries, from 0.
    pub number: u32,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.queue_id, self.number)
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (queue_id, number) = text.split_once('.').ok_or(InvalidId)?;
        Ok(Self {
            queue_id: queue_id.parse()?,
            number: number.parse().map_err(|_| InvalidId)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse() {
        for id in [
            QueueId::from_u128(0),
            QueueId::from_u128(u128::MAX),
            QueueId::new(),
        ] {
            let text = id.to_string();
            assert_eq!(text.len(), 26);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(text.to_uppercase().parse(), Ok(id));
        }
        assert!("8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<QueueId>().is_err());
        assert!("".parse::<QueueId>().is_err());
        let delivery = DeliveryId {
            queue_id: QueueId::new(),
            number: 7,
        };
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
    }

    #[test]
    fn ids_grow() {
        let mut last = QueueId::new();
        for _ in 0..10_000 {
            let next = QueueId::new();
            assert!(next > last);
            last = next;
        }
    }
}
