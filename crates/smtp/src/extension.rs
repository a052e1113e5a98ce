//! Service extensions (RFC 5321 section 2.2): what EHLO offers.

use core::ops::BitOr;

/// A set of service extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions(u16);

impl Extensions {
    /// None.
    pub const NONE: Self = Self(0);
    /// RFC 2920: commands may be sent without waiting for replies.
    pub const PIPELINING: Self = Self(1);
    /// RFC 1870: the size of messages is declared and limited.
    pub const SIZE: Self = Self(1 << 1);
    /// RFC 6152: content may have octets above 127.
    pub const EIGHT_BIT_MIME: Self = Self(1 << 2);
    /// RFC 6531: addresses and header fields may be international.
    pub const SMTPUTF8: Self = Self(1 << 3);
    /// RFC 2034: replies carry enhanced status codes.
    pub const ENHANCED_STATUS_CODES: Self = Self(1 << 4);
    /// RFC 3030: content may come in counted chunks, with BDAT.
    pub const CHUNKING: Self = Self(1 << 5);
    /// RFC 3461: delivery status notifications may be asked for.
    pub const DSN: Self = Self(1 << 6);
    /// RFC 3207: the connection may be turned into one with TLS.
    pub const STARTTLS: Self = Self(1 << 7);
    /// RFC 4954: clients may authenticate.
    pub const AUTH: Self = Self(1 << 8);
    /// RFC 4865: a submitted message may be held until a later time.
    pub const FUTURE_RELEASE: Self = Self(1 << 9);
    /// RFC 6710: a message may be more or less urgent than others.
    pub const MT_PRIORITY: Self = Self(1 << 10);

    /// What Postrider's server offers to everybody, in clear and under TLS.
    pub const COMMON: Self = Self::PIPELINING
        .and(Self::SIZE)
        .and(Self::EIGHT_BIT_MIME)
        .and(Self::SMTPUTF8)
        .and(Self::ENHANCED_STATUS_CODES)
        .and(Self::CHUNKING)
        .and(Self::DSN);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other's members.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every member of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the other's members.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitOr for Extensions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}
