//! The envelope (RFC 5321 section 2.3.1): reverse-path, forward-paths, their ESMTP parameters.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::BitOr;

use crate::address::{ForwardPath, ReversePath};
use crate::datetime::DateTime;

/// An envelope, as a server receives it and a client sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where notifications go.
    pub reverse_path: ReversePath,
    /// Parameters of MAIL.
    pub parameters: MailParameters,
    /// Where the message goes, in the order of the RCPT commands.
    pub recipients: Vec<Recipient>,
}

/// A forward-path with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where the message goes.
    pub path: ForwardPath,
    /// Parameters of RCPT.
    pub parameters: RcptParameters,
}

/// ESMTP parameters of MAIL that are kept. AUTH= (RFC 4954 section 5) is taken and forgotten,
/// as by a server that trusts nobody's word about other identities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// SIZE: octets of content as the client estimates it (RFC 1870 section 6).
    pub size: Option<u64>,
    /// BODY=8BITMIME was given (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8: addresses or header fields may be international (RFC 6531).
    pub smtputf8: bool,
    /// RET: how much of the message a DSN is to return (RFC 3461 section 4.3).
    pub ret: Option<DsnReturn>,
    /// ENVID, as it came: xtext of at most 100 octets (RFC 3461 section 4.4).
    pub envid: Option<Box<str>>,
    /// HOLDFOR or HOLDUNTIL: not to be sent before then (RFC 4865). Not said to other servers: the
    /// message is there when it goes to them.
    pub hold: Option<Hold>,
    /// MT-PRIORITY (RFC 6710 section 4).
    pub priority: Priority,
}

/// Until when a message is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR: so many seconds from now; at least one, at most 999,999,999.
    For(u32),
    /// HOLDUNTIL: until this moment.
    Until(DateTime),
}

/// How urgent a message is: from -9 to 9, where 0 is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Priority(i8);

impl Priority {
    /// From a number; `None` beyond -9 and 9.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        let number = i8::try_from(number).ok()?;
        (-9..=9).contains(&number).then_some(Self(number))
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }
}

/// ESMTP parameters of RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RcptParameters {
    /// NOTIFY: when a DSN is to be sent (RFC 3461 section 4.1).
    pub notify: Notify,
    /// ORCPT, as it came: `addr-type;xtext` of at most 500 octets (RFC 3461 section 4.2).
    pub orcpt: Option<Box<str>>,
}

/// How much of the message a DSN is to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsnReturn {
    /// RET=FULL
    Full,
    /// RET=HDRS
    Headers,
}

/// When a DSN is to be sent: a set of events, or never. Empty if the parameter is absent, which
/// stands for failure and, as the server likes, delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify(u8);

impl Notify {
    /// NOTIFY is absent.
    pub const UNSPECIFIED: Self = Self(0);
    /// NOTIFY=NEVER
    pub const NEVER: Self = Self(1);
    /// NOTIFY=SUCCESS
    pub const SUCCESS: Self = Self(2);
    /// NOTIFY=FAILURE
    pub const FAILURE: Self = Self(4);
    /// NOTIFY=DELAY
    pub const DELAY: Self = Self(8);

    /// From bits: 1 never, 2 success, 4 failure, 8 delay. `None` if unknown bits are set, or
    /// *never* together with others.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits > 15 || (bits & 1 == 1 && bits != 1) {
            None
        } else {
            Some(Self(bits))
        }
    }

    /// As bits: 1 never, 2 success, 4 failure, 8 delay.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every event of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Notify {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
