//! What a session offers, requires and bears.

use alloc::boxed::Box;

use crate::data::ContentLimits;
use crate::extension::Extensions;

/// What all sessions of a listener have in common. Drivers share one in an `Arc`.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The name in greeting, EHLO and 221.
    pub hostname: Box<str>,
    /// Extensions that are offered to everybody; [`Extensions::COMMON`] unless there is a reason.
    /// STARTTLS and AUTH follow from the fields below.
    pub extensions: Extensions,
    /// Whether STARTTLS is offered or required. Means nothing on a connection that began with TLS.
    pub tls: TlsPolicy,
    /// Offer AUTH PLAIN and LOGIN; only ever under TLS.
    pub auth: bool,
    /// Take no MAIL from clients that have not authenticated: 530 5.7.0.
    pub auth_required: bool,
    /// What clients that may authenticate are offered besides.
    pub submission: Submission,
    /// Limits of content. The size is offered as SIZE (RFC 1870).
    pub content: ContentLimits,
    /// What one client may ask of a session.
    pub limits: Limits,
}

/// Extensions for mail programs: offered where AUTH is, so that a client need not ask again after it,
/// and taken from those who have authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Submission {
    /// Seconds that a message may be held at most before it is sent (FUTURERELEASE, RFC 4865); 0: it
    /// is not offered. The session must be [told the time](super::Session::tell_time).
    pub hold: u32,
    /// Offer MT-PRIORITY (RFC 6710).
    pub priority: bool,
}

/// Whether a plain connection may or must become one with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// There is no certificate: STARTTLS is not offered.
    Unavailable,
    /// STARTTLS is offered.
    Offered,
    /// STARTTLS is offered and no mail is taken without: 530 5.7.0 (RFC 3207 section 4).
    Required,
}

/// What one client may ask of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Accepted recipients of one transaction; more get 452 4.5.3. RFC 5321 section 4.5.3.1.8
    /// asks for at least 100.
    pub recipients: usize,
    /// Replies 4yz and 5yz before 421 4.7.0 and the end. Counted since the last message accepted.
    pub errors: u32,
    /// Commands (NOOP, RSET, EHLO, MAIL …) before 421 4.7.0 and the end, counted since the last
    /// message accepted. Accepted recipients do not count.
    pub commands: u32,
    /// Failed AUTH commands before 421 4.7.0 and the end.
    pub auth_failures: u32,
    /// Octets of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 says 512, and the
    /// extensions offered add to it: 2,048 covers all of them.
    pub command_line: usize,
    /// Octets of a line of AUTH; RFC 4954 section 4 says 12,288.
    pub auth_line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recipients: 1000,
            errors: 20,
            commands: 100,
            auth_failures: 3,
            command_line: 2048,
            auth_line: 12_288,
        }
    }
}

impl SessionConfig {
    /// What a server for mail from other servers wants: no AUTH, no TLS until a certificate is
    /// there, messages of 50 MiB, lines of 4,096 octets.
    #[must_use]
    pub fn new(hostname: impl Into<Box<str>>) -> Self {
        Self {
            hostname: hostname.into(),
            extensions: Extensions::COMMON,
            tls: TlsPolicy::Unavailable,
            auth: false,
            auth_required: false,
            submission: Submission::default(),
            content: ContentLimits {
                size: 50 * 1024 * 1024,
                line: 4096,
            },
            limits: Limits::default(),
        }
    }
}
