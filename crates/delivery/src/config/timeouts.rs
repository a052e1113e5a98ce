//! The section `[delivery.timeouts]`.

use postrider_config::values::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long the other side may take. The defaults are the minima of RFC 5321 section 4.5.3.2;
/// below them mail is lost to slow servers, or arrives twice where the last one is too short.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a TCP connection. RFC 5321 names none; much longer helps nobody.
    pub connect: Period,
    /// For the 220 greeting.
    pub greeting: Period,
    /// For the reply to EHLO, HELO, STARTTLS and AUTH.
    pub hello: Period,
    /// For the whole TLS handshake.
    pub tls: Period,
    /// For the reply to MAIL.
    pub mail: Period,
    /// For the reply to each RCPT.
    pub rcpt: Period,
    /// For the 354 reply to DATA.
    pub data: Period,
    /// For the other side to take some of the content, each time.
    pub block: Period,
    /// For the reply to the final dot. Too short a wait here makes duplicates (RFC 1047).
    pub end_of_data: Period,
    /// For the replies to RSET and QUIT, on which nothing depends.
    pub quit: Period,
    /// For the mailbox service to put a message on disk.
    pub mailbox: Period,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Period::seconds(30),
            greeting: Period::seconds(300),
            hello: Period::seconds(300),
            tls: Period::seconds(60),
            mail: Period::seconds(300),
            rcpt: Period::seconds(300),
            data: Period::seconds(120),
            block: Period::seconds(180),
            end_of_data: Period::seconds(600),
            quit: Period::seconds(5),
            mailbox: Period::seconds(120),
        }
    }
}

impl Timeouts {
    pub(crate) fn validate(&self) -> Vec<String> {
        [
            ("connect", self.connect),
            ("greeting", self.greeting),
            ("hello", self.hello),
            ("tls", self.tls),
            ("mail", self.mail),
            ("rcpt", self.rcpt),
            ("data", self.data),
            ("block", self.block),
            ("end_of_data", self.end_of_data),
            ("quit", self.quit),
            ("mailbox", self.mailbox),
        ]
        .into_iter()
        .filter(|(_, period)| period.0.is_zero())
        .map(|(key, _)| format!("delivery.timeouts.{key}: must be longer than zero"))
        .collect()
    }
}
