//! Enhanced mail system status codes (RFC 3463), the `5.1.1` of a reply.

use core::fmt;
use core::str::FromStr;

/// What a status or reply means for whoever sent the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 2yz: done.
    Success,
    /// 4yz: not now; a deferral.
    TransientFailure,
    /// 5yz: never in this form; a permanent failure.
    PermanentFailure,
}

impl Class {
    const fn digit(self) -> u16 {
        match self {
            Self::Success => 2,
            Self::TransientFailure => 4,
            Self::PermanentFailure => 5,
        }
    }
}

/// Class, subject and detail: `class.subject.detail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    class: Class,
    subject: u16,
    detail: u16,
}

impl EnhancedStatus {
    /// `class.subject.detail`; subject and detail have at most three digits (RFC 3463 section 2)
    /// and are cut to 999.
    #[must_use]
    pub const fn new(class: Class, subject: u16, detail: u16) -> Self {
        const fn cut(number: u16) -> u16 {
            if number > 999 { 999 } else { number }
        }
        Self {
            class,
            subject: cut(subject),
            detail: cut(detail),
        }
    }

    /// `2.subject.detail`.
    #[must_use]
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self::new(Class::Success, subject, detail)
    }

    /// `4.subject.detail`.
    #[must_use]
    pub const fn transient(subject: u16, detail: u16) -> Self {
        Self::new(Class::TransientFailure, subject, detail)
    }

    /// `5.subject.detail`.
    #[must_use]
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self::new(Class::PermanentFailure, subject, detail)
    }

    /// Success, transient or permanent failure.
    #[must_use]
    pub const fn class(self) -> Class {
        self.class
    }

    /// What it is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    #[must_use]
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// What exactly, within the subject.
    #[must_use]
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// Takes a status from the start of a reply's text; what follows it must be a space or
    /// nothing. Returns the rest of the text.
    #[must_use]
    pub fn split_from(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some((word.parse().ok()?, rest))
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class.digit(), self.subject, self.detail)
    }
}

/// Text that is no enhanced status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code: class.subject.detail")]
pub struct InvalidStatus;

impl FromStr for EnhancedStatus {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, InvalidStatus> {
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => Class::Success,
            Some("4") => Class::TransientFailure,
            Some("5") => Class::PermanentFailure,
            _ => return Err(InvalidStatus),
        };
        let mut number = || -> Result<u16, InvalidStatus> {
            let part = parts.next().ok_or(InvalidStatus)?;
            // RFC 3463 section 2: one to three digits. `parse` alone would take a sign.
            if part.is_empty() || part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(InvalidStatus);
            }
            part.parse().map_err(|_| InvalidStatus)
        };
        let (subject, detail) = (number()?, number()?);
        match parts.next() {
            None => Ok(Self::new(class, subject, detail)),
            Some(_) => Err(InvalidStatus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn prints_and_parses() {
        for text in ["2.0.0", "4.4.2", "5.7.11", "5.999.999"] {
            assert_eq!(
                text.parse::<EnhancedStatus>().map(|s| s.to_string()),
                Ok(text.to_string())
            );
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "", "5", "5.1", "3.0.0", "5.1.1.1", "5.+1.1", "5.1000.1", "5..1", "5.1.1x",
        ] {
            assert_eq!(text.parse::<EnhancedStatus>(), Err(InvalidStatus), "{text}");
        }
    }

    #[test]
    fn splits_from_text() {
        let (status, rest) = EnhancedStatus::split_from("5.1.1 No such user").unwrap();
        assert_eq!(status, EnhancedStatus::permanent(1, 1));
        assert_eq!(rest, "No such user");
        assert!(EnhancedStatus::split_from("5.1.1: No such user").is_none());
    }
}
