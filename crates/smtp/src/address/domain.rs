//! Domains: names, international names, address literals (RFC 5321 section 4.1.3).

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::net::{Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{InvalidAddress, MAX_DOMAIN};

/// What stands after the `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain<'a> {
    /// A name, with or without international labels, as it was written.
    Name(&'a str),
    /// An address in square brackets.
    Literal(AddressLiteral<'a>),
}

/// An address in square brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLiteral<'a> {
    /// `[192.0.2.1]`
    Ipv4(Ipv4Addr),
    /// `[IPv6:2001:db8::1]`
    Ipv6(Ipv6Addr),
    /// `[tag:content]` of a kind that nobody has standardised yet.
    General {
        /// What stands before the colon.
        tag: &'a str,
        /// What stands after it.
        content: &'a str,
    },
}

impl<'a> Domain<'a> {
    /// Parses a domain.
    ///
    /// Underscores are taken, which host names may not have but names in use do.
    ///
    /// # Errors
    /// [`InvalidAddress::Domain`] or [`InvalidAddress::TooLong`].
    pub fn parse(text: &'a str) -> Result<Self, InvalidAddress> {
        if text.len() > MAX_DOMAIN {
            return Err(InvalidAddress::TooLong);
        }
        if let Some(literal) = text.strip_prefix('[') {
            let inner = literal.strip_suffix(']').ok_or(InvalidAddress::Domain)?;
            return parse_literal(inner)
                .map(Self::Literal)
                .ok_or(InvalidAddress::Domain);
        }
        match ascii_name(text) {
            Some(_) => Ok(Self::Name(text)),
            None => Err(InvalidAddress::Domain),
        }
    }
}

fn parse_literal(inner: &str) -> Option<AddressLiteral<'_>> {
    let Some((tag, content)) = inner.split_once(':') else {
        return inner.parse().ok().map(AddressLiteral::Ipv4);
    };
    if tag.eq_ignore_ascii_case("IPv6") {
        return content.parse().ok().map(AddressLiteral::Ipv6);
    }
    let tag_is_ldh = tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && tag.ends_with(|c: char| c.is_ascii_alphanumeric());
    // dcontent: printable ASCII but for brackets and backslash.
    let is_dcontent = |b: u8| matches!(b, b'!'..=b'Z' | b'^'..=b'~');
    (tag_is_ldh && !content.is_empty() && content.bytes().all(is_dcontent))
        .then_some(AddressLiteral::General { tag, content })
}

/// The domain in lower case with A-labels; `None` if it is not one. Literals keep their brackets.
pub(super) fn ascii(text: &str) -> Option<Cow<'_, str>> {
    if text.starts_with('[') {
        Some(lower(text))
    } else {
        ascii_name(text)
    }
}

fn ascii_name(text: &str) -> Option<Cow<'_, str>> {
    if text.is_ascii() {
        return is_ascii_name(text).then(|| lower(text));
    }
    // STD3 rules for what is not international in an international name: letters, digits,
    // hyphens. Anything laxer could smuggle '@', '>' or '/' in through a compatibility mapping.
    let ascii = Uts46::new()
        .to_ascii(
            text.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .ok()?
        .into_owned();
    is_ascii_name(&ascii).then_some(Cow::Owned(ascii))
}

fn is_ascii_name(text: &str) -> bool {
    text.len() <= 253
        && text.as_bytes().split(|b| *b == b'.').all(|label| {
            (1..=63).contains(&label.len())
                && label[0] != b'-'
                && label[label.len() - 1] != b'-'
                && label
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// A-labels as U-labels, where they are good ones; otherwise the text as it is.
pub(super) fn unicode(text: &str) -> String {
    if text.starts_with('[') {
        return text.to_string();
    }
    let (unicode, good) = Uts46::new().to_unicode(
        text.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
    );
    match good {
        Ok(()) => unicode.into_owned(),
        Err(_) => text.to_string(),
    }
}
