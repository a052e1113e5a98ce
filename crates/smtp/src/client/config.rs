//! How a client presents itself and what it insists on.

use alloc::boxed::Box;

use crate::credentials::Credentials;

/// What all sessions to a destination have in common. Drivers share one in an `Arc`.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The name in EHLO and HELO.
    pub hostname: Box<str>,
    /// Whether to use STARTTLS. Means nothing on a connection that began with TLS.
    pub tls: TlsUse,
    /// Log in with these, for smarthosts. The session then fails if the server does not offer
    /// AUTH PLAIN or LOGIN, and never sends them in clear.
    pub credentials: Option<Credentials>,
}

/// Whether to use STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsUse {
    /// Never.
    Never,
    /// Where it is offered (RFC 7435).
    IfOffered,
    /// Fail the session where it is not offered or refused.
    Required,
}

impl ClientConfig {
    /// Opportunistic TLS, no AUTH.
    #[must_use]
    pub fn new(hostname: impl Into<Box<str>>) -> Self {
        Self {
            hostname: hostname.into(),
            tls: TlsUse::IfOffered,
            credentials: None,
        }
    }
}
