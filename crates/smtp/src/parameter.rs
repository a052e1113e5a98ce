//! ESMTP parameters of MAIL and RCPT: parsing and printing.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::command::CommandError;
use crate::datetime::DateTime;
use crate::envelope::{DsnReturn, Hold, MailParameters, Notify, Priority, RcptParameters};
use crate::extension::Extensions;
use crate::xtext;

/// Octets of ENVID (RFC 3461 section 4.4).
pub const MAX_ENVID: usize = 100;
/// Octets of ORCPT (RFC 3461 section 4.2).
pub const MAX_ORCPT: usize = 500;

impl MailParameters {
    /// Parses what follows the path of MAIL; takes parameters of the offered extensions only.
    ///
    /// # Errors
    /// [`CommandError::UnknownParameter`] or [`CommandError::BadParameter`].
    pub fn parse(text: &str, offered: Extensions) -> Result<Self, CommandError> {
        let mut parameters = Self::default();
        let mut seen = Seen::default();
        for word in words(text) {
            let (keyword, value) = split(word)?;
            let keyword = Keyword::find(keyword, offered).ok_or(CommandError::UnknownParameter)?;
            seen.once(keyword)?;
            match (keyword, value) {
                (Keyword::Size, Some(value)) => parameters.size = Some(size(value)?),
                (Keyword::Body, Some(value)) => parameters.eight_bit_mime = is_8bit(value)?,
                (Keyword::SmtpUtf8, None) => parameters.smtputf8 = true,
                (Keyword::Ret, Some(value)) => parameters.ret = Some(ret(value)?),
                (Keyword::Envid, Some(value)) if is_bounded_xtext(value, MAX_ENVID) => {
                    parameters.envid = Some(value.into());
                }
                (Keyword::Auth, Some(value)) if xtext::is_xtext(value) => {}
                // One of the two, and once (RFC 4865 section 4).
                (Keyword::HoldFor | Keyword::HoldUntil, _) if parameters.hold.is_some() => {
                    return Err(CommandError::BadParameter);
                }
                (Keyword::HoldFor, Some(value)) => parameters.hold = Some(hold_for(value)?),
                (Keyword::HoldUntil, Some(value)) => {
                    let until = DateTime::parse(value).ok_or(CommandError::BadParameter)?;
                    parameters.hold = Some(Hold::Until(until));
                }
                (Keyword::MtPriority, Some(value)) => parameters.priority = priority(value)?,
                (Keyword::Notify | Keyword::Orcpt, _) => {
                    return Err(CommandError::UnknownParameter);
                }
                _ => return Err(CommandError::BadParameter),
            }
        }
        Ok(parameters)
    }
}

impl RcptParameters {
    /// Parses what follows the path of RCPT; takes parameters of the offered extensions only.
    ///
    /// # Errors
    /// [`CommandError::UnknownParameter`] or [`CommandError::BadParameter`].
    pub fn parse(text: &str, offered: Extensions) -> Result<Self, CommandError> {
        let mut parameters = Self::default();
        let mut seen = Seen::default();
        for word in words(text) {
            let (keyword, value) = split(word)?;
            let keyword = Keyword::find(keyword, offered).ok_or(CommandError::UnknownParameter)?;
            seen.once(keyword)?;
            match (keyword, value) {
                (Keyword::Notify, Some(value)) => parameters.notify = notify(value)?,
                (Keyword::Orcpt, Some(value)) if is_orcpt(value) => {
                    parameters.orcpt = Some(value.into());
                }
                (Keyword::Notify | Keyword::Orcpt, _) => return Err(CommandError::BadParameter),
                _ => return Err(CommandError::UnknownParameter),
            }
        }
        Ok(parameters)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Size,
    Body,
    SmtpUtf8,
    Ret,
    Envid,
    Auth,
    Notify,
    Orcpt,
    HoldFor,
    HoldUntil,
    MtPriority,
}

impl Keyword {
    const ALL: [(Self, &'static str, Extensions); 11] = [
        (Self::Size, "SIZE", Extensions::SIZE),
        (Self::Body, "BODY", Extensions::EIGHT_BIT_MIME),
        (Self::SmtpUtf8, "SMTPUTF8", Extensions::SMTPUTF8),
        (Self::Ret, "RET", Extensions::DSN),
        (Self::Envid, "ENVID", Extensions::DSN),
        (Self::Auth, "AUTH", Extensions::AUTH),
        (Self::Notify, "NOTIFY", Extensions::DSN),
        (Self::Orcpt, "ORCPT", Extensions::DSN),
        (Self::HoldFor, "HOLDFOR", Extensions::FUTURE_RELEASE),
        (Self::HoldUntil, "HOLDUNTIL", Extensions::FUTURE_RELEASE),
        (Self::MtPriority, "MT-PRIORITY", Extensions::MT_PRIORITY),
    ];

    fn find(name: &str, offered: Extensions) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(_, known, _)| name.eq_ignore_ascii_case(known))
            .filter(|(_, _, extension)| offered.contains(*extension))
            .map(|(keyword, ..)| keyword)
    }
}

/// A parameter may be given once (RFC 1869 section 6).
#[derive(Default)]
struct Seen(u16);

impl Seen {
    fn once(&mut self, keyword: Keyword) -> Result<(), CommandError> {
        let bit = 1 << keyword as u16;
        if self.0 & bit != 0 {
            return Err(CommandError::BadParameter);
        }
        self.0 |= bit;
        Ok(())
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

/// Keyword and value (RFC 5321 section 4.1.2: `esmtp-param`).
fn split(word: &str) -> Result<(&str, Option<&str>), CommandError> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    let keyword_is_good = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
        && keyword
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let value_is_good = value.is_none_or(|value| {
        !value.is_empty() && !value.contains(|c: char| c == '=' || c.is_control())
    });
    if keyword_is_good && value_is_good {
        Ok((keyword, value))
    } else {
        Err(CommandError::BadParameter)
    }
}

fn size(value: &str) -> Result<u64, CommandError> {
    // RFC 1870 section 4: at most 20 digits. One that does not fit into 64 bits is too large
    // for anybody, so it may as well be the largest.
    if value.len() > 20 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CommandError::BadParameter);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

fn is_8bit(value: &str) -> Result<bool, CommandError> {
    if value.eq_ignore_ascii_case("8BITMIME") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("7BIT") {
        Ok(false)
    } else {
        Err(CommandError::BadParameter)
    }
}

fn ret(value: &str) -> Result<DsnReturn, CommandError> {
    if value.eq_ignore_ascii_case("FULL") {
        Ok(DsnReturn::Full)
    } else if value.eq_ignore_ascii_case("HDRS") {
        Ok(DsnReturn::Headers)
    } else {
        Err(CommandError::BadParameter)
    }
}

/// One to nine digits, the first of which is not 0 (RFC 4865 section 4).
fn hold_for(value: &str) -> Result<Hold, CommandError> {
    let is_number = value.len() <= 9
        && !value.starts_with('0')
        && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(seconds) if is_number => Ok(Hold::For(seconds)),
        _ => Err(CommandError::BadParameter),
    }
}

/// `0`, or a digit from 1 to 9 that may have a minus sign (RFC 6710 section 3).
fn priority(value: &str) -> Result<Priority, CommandError> {
    let number = match value.as_bytes() {
        [digit @ b'0'..=b'9'] => i32::from(digit - b'0'),
        [b'-', digit @ b'1'..=b'9'] => -i32::from(digit - b'0'),
        _ => return Err(CommandError::BadParameter),
    };
    Priority::new(number).ok_or(CommandError::BadParameter)
}

const NOTIFY_EVENTS: [(&str, Notify); 4] = [
    ("NEVER", Notify::NEVER),
    ("SUCCESS", Notify::SUCCESS),
    ("FAILURE", Notify::FAILURE),
    ("DELAY", Notify::DELAY),
];

fn notify(value: &str) -> Result<Notify, CommandError> {
    let mut notify = Notify::UNSPECIFIED;
    for word in value.split(',') {
        let (_, event) = NOTIFY_EVENTS
            .into_iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name))
            .ok_or(CommandError::BadParameter)?;
        notify = notify | event;
    }
    // NEVER stands alone.
    Notify::from_bits(notify.bits()).ok_or(CommandError::BadParameter)
}

pub(crate) fn is_bounded_xtext(value: &str, max: usize) -> bool {
    value.len() <= max && xtext::is_xtext(value)
}

/// `addr-type;xtext`; with the type `utf-8` also the forms of RFC 6533 section 3.
pub(crate) fn is_orcpt(value: &str) -> bool {
    let Some((kind, address)) = value.split_once(';') else {
        return false;
    };
    let kind_is_good =
        !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let address_is_good = if kind.eq_ignore_ascii_case("utf-8") {
        !address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '=')
    } else {
        xtext::is_xtext(address)
    };
    kind_is_good && address_is_good && !address.is_empty() && value.len() <= MAX_ORCPT
}

/// With a space before each parameter, as it follows the path.
impl fmt::Display for MailParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.size {
            write!(f, " SIZE={size}")?;
        }
        if self.eight_bit_mime {
            f.write_str(" BODY=8BITMIME")?;
        }
        if self.smtputf8 {
            f.write_str(" SMTPUTF8")?;
        }
        match self.ret {
            Some(DsnReturn::Full) => f.write_str(" RET=FULL")?,
            Some(DsnReturn::Headers) => f.write_str(" RET=HDRS")?,
            None => {}
        }
        if let Some(envid) = &self.envid {
            write!(f, " ENVID={envid}")?;
        }
        match self.hold {
            Some(Hold::For(seconds)) => write!(f, " HOLDFOR={seconds}")?,
            Some(Hold::Until(moment)) => write!(f, " HOLDUNTIL={moment}")?,
            None => {}
        }
        if self.priority == Priority::default() {
            return Ok(());
        }
        write!(f, " MT-PRIORITY={}", self.priority.get())
    }
}

/// With a space before each parameter, as it follows the path.
impl fmt::Display for RcptParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.notify != Notify::UNSPECIFIED {
            let mut list = String::new();
            for (name, event) in NOTIFY_EVENTS {
                if self.notify.contains(event) {
                    let comma = if list.is_empty() { "" } else { "," };
                    write!(list, "{comma}{name}")?;
                }
            }
            write!(f, " NOTIFY={list}")?;
        }
        match &self.orcpt {
            Some(orcpt) => write!(f, " ORCPT={orcpt}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const ALL: Extensions = Extensions::COMMON
        .and(Extensions::AUTH)
        .and(Extensions::FUTURE_RELEASE)
        .and(Extensions::MT_PRIORITY);

    #[test]
    fn mail_parameters() {
        let text = " SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=abc+2B";
        let parameters = MailParameters::parse(text, ALL).unwrap();
        assert_eq!(parameters.size, Some(1000));
        assert_eq!(parameters.to_string(), text);
        let lower =
            MailParameters::parse("  body=8bitmime  auth=<> size=99999999999999999999 ", ALL);
        assert_eq!(lower.unwrap().size, Some(u64::MAX));
    }

    #[test]
    fn parameters_of_submission() {
        for text in [
            " HOLDFOR=1 MT-PRIORITY=9",
            " HOLDFOR=999999999",
            " HOLDUNTIL=2026-11-25T10:00:00Z MT-PRIORITY=-9",
        ] {
            let parameters = MailParameters::parse(text, ALL).unwrap();
            assert_eq!(parameters.to_string(), text);
        }
        let usual = MailParameters::parse("mt-priority=0", ALL).unwrap();
        assert_eq!(usual, MailParameters::default());
        assert_eq!(Priority::new(10), None);
        assert_eq!(Priority::new(-10), None);
    }

    #[test]
    fn rcpt_parameters() {
        let text = " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+2Bx@example.org";
        let parameters = RcptParameters::parse(text, ALL).unwrap();
        assert_eq!(parameters.notify.bits(), 10);
        assert_eq!(parameters.to_string(), text);
        assert!(RcptParameters::parse("ORCPT=utf-8;ü@example.org", ALL).is_ok());
    }

    #[test]
    fn unknown_or_not_offered() {
        for text in ["FOO", "FOO=bar", "NOTIFY=NEVER"] {
            assert_eq!(
                MailParameters::parse(text, ALL),
                Err(CommandError::UnknownParameter)
            );
        }
        for text in [
            "SIZE=1",
            "RET=FULL",
            "SMTPUTF8",
            "AUTH=<>",
            "HOLDFOR=1",
            "HOLDUNTIL=2026-11-25T10:00:00Z",
            "MT-PRIORITY=1",
        ] {
            assert_eq!(
                MailParameters::parse(text, Extensions::NONE),
                Err(CommandError::UnknownParameter)
            );
        }
        assert_eq!(
            RcptParameters::parse("SIZE=1", ALL),
            Err(CommandError::UnknownParameter)
        );
    }

    #[test]
    fn bad_values() {
        for text in [
            "SIZE",
            "SIZE=",
            "SIZE=x",
            "SIZE=-1",
            "SIZE=999999999999999999999",
            "SIZE=1 SIZE=1",
            "BODY=BINARYMIME",
            "BODY",
            "SMTPUTF8=yes",
            "RET=SOME",
            "ENVID=a=b",
            "ENVID=+2",
            "=x",
            "-A=1",
            "A_B=1",
            "ENVID",
            "AUTH",
            "HOLDFOR",
            "HOLDFOR=0",
            "HOLDFOR=01",
            "HOLDFOR=+1",
            "HOLDFOR=-1",
            "HOLDFOR=1000000000",
            "HOLDFOR=1 HOLDFOR=1",
            "HOLDFOR=1 HOLDUNTIL=2026-11-25T10:00:00Z",
            "HOLDUNTIL",
            "HOLDUNTIL=1795600800",
            "HOLDUNTIL=2026-11-31T10:00:00Z",
            "MT-PRIORITY",
            "MT-PRIORITY=10",
            "MT-PRIORITY=-10",
            "MT-PRIORITY=-0",
            "MT-PRIORITY=+1",
            "MT-PRIORITY=01",
            "MT-PRIORITY=high",
        ] {
            assert_eq!(
                MailParameters::parse(text, ALL),
                Err(CommandError::BadParameter),
                "{text}"
            );
        }
        let long = ["ENVID=", &"x".repeat(101)].concat();
        assert_eq!(
            MailParameters::parse(&long, ALL),
            Err(CommandError::BadParameter)
        );
        for text in [
            "NOTIFY",
            "NOTIFY=",
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=SUCCESS,",
            "NOTIFY=x",
            "ORCPT=bob",
            "ORCPT=rfc822;",
            "ORCPT=;bob",
            "ORCPT=rfc822;ü",
            "ORCPT=utf-8;a=b",
        ] {
            assert_eq!(
                RcptParameters::parse(text, ALL),
                Err(CommandError::BadParameter),
                "{text}"
            );
        }
    }
}
