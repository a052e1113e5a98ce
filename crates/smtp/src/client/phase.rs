//! What a client waits for, and for how long (RFC 5321 section 4.5.3.2).

use core::time::Duration;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The 220 after connecting.
    Greeting,
    /// The reply to EHLO or HELO.
    Ehlo,
    /// The reply to STARTTLS.
    StartTls,
    /// The driver's TLS handshake.
    TlsHandshake,
    /// The reply to a step of AUTH.
    Auth,
    /// Nothing: a transaction may begin.
    Idle,
    /// The reply to RSET.
    Rset,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT.
    Rcpt,
    /// The reply to DATA.
    DataInitiation,
    /// The driver's chunks of content, each of which is to be written within the time.
    DataBlock,
    /// The reply to the final dot.
    DataTermination,
    /// The reply to QUIT.
    Quit,
}

impl Phase {
    /// How long to wait, at least (RFC 5321 section 4.5.3.2); for what the RFC does not name, what
    /// comes closest to it. QUIT is different: nothing depends on its reply.
    #[must_use]
    pub const fn recommended_timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::DataInitiation => 2 * 60,
            Self::DataBlock => 3 * 60,
            Self::DataTermination => 10 * 60,
            Self::TlsHandshake => 60,
            Self::Quit => 5,
            Self::Greeting
            | Self::Ehlo
            | Self::StartTls
            | Self::Auth
            | Self::Idle
            | Self::Rset
            | Self::Mail
            | Self::Rcpt => 5 * 60,
        })
    }

    /// A few words for logs: `MAIL FROM`, `end of data`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::TlsHandshake => "TLS handshake",
            Self::Auth => "AUTH",
            Self::Idle => "idle",
            Self::Rset => "RSET",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::DataInitiation => "DATA",
            Self::DataBlock => "content",
            Self::DataTermination => "end of data",
            Self::Quit => "QUIT",
        }
    }
}
