//! What one client, one session and one message may ask for, and how long they may take.

use postrider_config::values::{Period, Size};
use postrider_protocol::MOST_RECIPIENTS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one client, one session and one message may ask for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections open at the same time, over all listeners. Those beyond are told 421 4.3.2.
    /// An idle connection costs a few KiB, so the number of file descriptors ends before memory.
    pub connections: u32,

    /// Connections open at the same time from one client: one IPv4 address, or one IPv6 /64,
    /// which is what a single customer gets. Those beyond are told 421 4.7.0. Trusted networks
    /// are exempt.
    pub connections_per_client: u32,

    /// Size of a message as it arrives, also offered as SIZE in EHLO (RFC 1870). Larger ones are
    /// told 552 5.3.4. 50 MiB is what the large providers take.
    pub message_size: Size,

    /// Recipients a transaction; those beyond are told 452 4.5.3 and come in a transaction of
    /// their own. RFC 5321 section 4.5.3.1.8 asks servers to take at least 100.
    pub recipients: u32,

    /// Size of a message's header section. It is held in memory while it arrives, so it is
    /// bounded apart from the message; larger ones are told 552 5.3.4.
    pub header_size: Size,

    /// Length of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512 octets,
    /// and the extensions for some hundred more. Longer ones are refused. Lines of AUTH may have
    /// 12288 octets all the same (RFC 4954 section 4).
    pub command_line: Size,

    /// Length of a line of content without its CRLF; messages with longer ones are told
    /// 550 5.6.0. RFC 5322 section 2.1.1 allows 998 octets, many programs write more, and only
    /// the next server can say whether it bears them. 0 means no limit.
    pub content_line: Size,

    /// Commands that lead to no message, such as NOOP, RSET or VRFY, since the last message that
    /// was accepted; then the session ends with 421 4.7.0.
    pub commands_without_mail: u32,

    /// Replies 4yz and 5yz since the last message that was accepted; then the session ends with
    /// 421 4.7.0.
    pub errors: u32,

    /// Failed tries to authenticate in one session; then it ends with 421 4.7.0.
    pub auth_failures: u32,

    /// Received lines in a message; with more it has run in a circle and is told 554 5.4.6.
    /// RFC 5321 section 6.3 asks for a threshold of at least 100.
    pub hops: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_client: 50,
            message_size: Size::mib(50),
            recipients: 1_000,
            header_size: Size::kib(256),
            command_line: Size::kib(2),
            content_line: Size::kib(64),
            commands_without_mail: 100,
            errors: 20,
            auth_failures: 3,
            hops: 100,
        }
    }
}

impl Limits {
    pub(super) fn validate(&self, problems: &mut Vec<String>) {
        let mut at_least = |key: &str, value: u64, least: u64, why: &str| {
            if value < least {
                problems.push(format!(
                    "edge.limits.{key}: {value} is less than {least}, {why}"
                ));
            }
        };
        at_least("connections", self.connections.into(), 1, "nobody gets in");
        at_least(
            "connections_per_client",
            self.connections_per_client.into(),
            1,
            "nobody gets in",
        );
        at_least(
            "message_size",
            self.message_size.0,
            65_536,
            "RFC 5321 section 4.5.3.1.7",
        );
        at_least(
            "recipients",
            self.recipients.into(),
            100,
            "RFC 5321 section 4.5.3.1.8",
        );
        at_least("header_size", self.header_size.0, 4_096, "mail needs it");
        at_least(
            "command_line",
            self.command_line.0,
            512,
            "RFC 5321 section 4.5.3.1.4",
        );
        at_least(
            "commands_without_mail",
            self.commands_without_mail.into(),
            5,
            "sessions need them",
        );
        at_least("errors", self.errors.into(), 1, "no session would last");
        at_least("auth_failures", self.auth_failures.into(), 1, "people err");
        at_least("hops", self.hops.into(), 10, "mail would be lost");
        if self.header_size.0 > Size::mib(4).0 {
            problems.push("edge.limits.header_size: more than 4MiB is held in memory".to_owned());
        }
        if self.command_line.0 > Size::kib(64).0 {
            problems.push("edge.limits.command_line: more than 64KiB is held in memory".to_owned());
        }
        if u32::try_from(self.content_line.0).is_err() {
            problems.push("edge.limits.content_line: 0 stands for no limit".to_owned());
        }
        if self.recipients as usize > MOST_RECIPIENTS {
            problems.push(format!(
                "edge.limits.recipients: the queue takes {MOST_RECIPIENTS} with a message at most"
            ));
        }
    }
}

/// How long the other side may keep a session waiting.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For the next whole command; then 421 4.4.2. RFC 5321 section 4.5.3.2.7 asks for at least
    /// five minutes. A command that trickles in does not prolong it.
    pub command: Period,

    /// For the next piece of content; then 421 4.4.2. Clients allow three minutes for a piece to
    /// leave them (RFC 5321 section 4.5.3.2.5).
    pub content: Period,

    /// For the whole content of one message, however steadily it trickles in; then 421 4.4.2.
    pub message: Period,

    /// For the client to take a reply; then the connection is closed.
    pub reply: Period,

    /// For the TLS handshake, from its first byte or from the 220 to STARTTLS.
    pub tls_handshake: Period,

    /// For the directory to say whether a recipient exists or a password is right; then
    /// 451 4.3.0 or 454 4.7.0.
    pub lookup: Period,

    /// For the queue to make a message durable, all tries together; then 451 4.3.0. Clients wait
    /// ten minutes for this reply (RFC 5321 section 4.5.3.2.6).
    pub enqueue: Period,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Period::seconds(300),
            content: Period::seconds(300),
            message: Period::seconds(3_600),
            reply: Period::seconds(60),
            tls_handshake: Period::seconds(60),
            lookup: Period::seconds(20),
            enqueue: Period::seconds(60),
        }
    }
}

impl Timeouts {
    pub(super) fn validate(&self, problems: &mut Vec<String>) {
        for (key, period) in [
            ("command", self.command),
            ("content", self.content),
            ("message", self.message),
            ("reply", self.reply),
            ("tls_handshake", self.tls_handshake),
            ("lookup", self.lookup),
            ("enqueue", self.enqueue),
        ] {
            if period.0.is_zero() {
                problems.push(format!("edge.timeouts.{key}: must be longer than nothing"));
            }
        }
    }
}
