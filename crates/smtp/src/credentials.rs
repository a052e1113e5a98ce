//! Credentials of AUTH (RFC 4954) and their forms in SASL PLAIN (RFC 4616) and LOGIN.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: everything in one line.
    Plain,
    /// The older two-step form, which some clients only know: user name, then password.
    Login,
}

impl Mechanism {
    /// Its name in EHLO and AUTH.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// A mechanism that is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown SASL mechanism")]
pub struct UnknownMechanism;

impl FromStr for Mechanism {
    type Err = UnknownMechanism;

    fn from_str(name: &str) -> Result<Self, UnknownMechanism> {
        [Self::Plain, Self::Login]
            .into_iter()
            .find(|mechanism| name.eq_ignore_ascii_case(mechanism.name()))
            .ok_or(UnknownMechanism)
    }
}

/// Who somebody claims to be, and the proof. The password is wiped from memory when dropped and
/// never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Authorization identity: whom to act as; empty for the user themselves.
    pub authorization: Box<str>,
    /// Authentication identity: whose password it is.
    pub user: Box<str>,
    /// The password.
    pub password: Zeroizing<String>,
}

impl Credentials {
    /// Credentials of a user who acts as themselves.
    #[must_use]
    pub fn new(user: impl Into<Box<str>>, password: impl Into<String>) -> Self {
        Self {
            authorization: Box::default(),
            user: user.into(),
            password: Zeroizing::new(password.into()),
        }
    }

    /// Takes a PLAIN response apart: `authzid NUL authcid NUL password`.
    pub(crate) fn from_plain(response: &[u8]) -> Option<Self> {
        let mut parts = core::str::from_utf8(response).ok()?.split('\0');
        let (authorization, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        (parts.next().is_none() && !user.is_empty()).then(|| Self {
            authorization: authorization.into(),
            user: user.into(),
            password: Zeroizing::new(password.into()),
        })
    }

    /// The PLAIN response in base64.
    pub(crate) fn to_plain(&self) -> Zeroizing<String> {
        let parts = [&*self.authorization, &*self.user, &*self.password];
        let response = Zeroizing::new(parts.join("\0"));
        encode(response.as_bytes())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authorization", &self.authorization)
            .field("user", &self.user)
            .field("password", &"[hidden]")
            .finish()
    }
}

pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

/// Decodes base64; strict about padding and alphabet.
pub(crate) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text).ok().map(Zeroizing::new)
}

/// Decodes base64 of UTF-8 text.
pub(crate) fn decode_text(text: &str) -> Option<Zeroizing<String>> {
    let bytes = STANDARD.decode(text).ok()?;
    match String::from_utf8(bytes) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn plain_goes_both_ways() {
        let credentials = Credentials::new("bob", "sécret");
        let response = decode(&credentials.to_plain()).unwrap();
        assert_eq!(&response[..5], b"\0bob\0");
        assert_eq!(Credentials::from_plain(&response), Some(credentials));
    }

    #[test]
    fn refuses_malformed_plain() {
        for response in [
            &b""[..],
            b"bob",
            b"\0bob",
            b"\0\0secret",
            b"\0a\0b\0c",
            b"\0\xff\0x",
        ] {
            assert_eq!(Credentials::from_plain(response), None);
        }
    }

    #[test]
    fn hides_the_password() {
        let shown = format!("{:?}", Credentials::new("bob", "secret"));
        assert!(shown.contains("bob") && !shown.contains("secret"));
    }
}
