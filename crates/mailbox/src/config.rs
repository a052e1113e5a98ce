//! The `[mailbox]` section.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use postrider_config::ServerConfig;
use postrider_config::values::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mailboxes on this server: accounts, storage, POP3.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MailboxConfig {
    /// Folder of the mailboxes, one Maildir an account: `<mail_dir>/<domain>/<local part>`.
    /// Left out, it is `mailboxes` in `[server] data_dir`.
    pub mail_dir: Option<PathBuf>,
    /// File of the accounts and their password hashes, kept by `postrider account`. Left out, it
    /// is `accounts` in `[server] data_dir`. A change takes effect at once, without a restart.
    pub accounts_file: Option<PathBuf>,
    /// The account that gets mail for postmaster at every local domain, which RFC 5321 section
    /// 4.5.1 wants accepted always, e.g. "alice@example.org". Left empty, it is the first account
    /// of that domain in the accounts file, or else the first account at all.
    pub postmaster: String,
    /// What separates a subaddress (RFC 5233) from the account: with "+", mail for
    /// alice+lists@example.org goes to alice. Empty turns subaddresses off.
    pub delimiter: String,
    /// Deliveries that are written to disk at the same time; more wait. Deliveries that are under
    /// way together share directory syncs, so a handful a disk is too few and hundreds gain nothing.
    pub disk_writers: NonZeroU32,
    /// Password checks that run at the same time; more wait for a moment and are then told to
    /// try later. Each takes 19 MiB of memory and about 20 ms of one core, on purpose.
    pub password_checks: NonZeroU32,
    /// How long a password that was found right is known again without the full check, so that a
    /// mail program that logs in every minute costs nothing. Only a keyed digest is remembered,
    /// in memory, and a changed password ends it at once. "0s" turns it off.
    pub password_memory: Period,
    /// POP3.
    pub pop3: Pop3Config,
}

impl Default for MailboxConfig {
    fn default() -> Self {
        Self {
            mail_dir: None,
            accounts_file: None,
            postmaster: String::new(),
            delimiter: "+".to_owned(),
            disk_writers: NonZeroU32::new(32).unwrap_or(NonZeroU32::MIN),
            password_checks: NonZeroU32::new(4).unwrap_or(NonZeroU32::MIN),
            password_memory: Period::seconds(300),
            pop3: Pop3Config::default(),
        }
    }
}

impl MailboxConfig {
    /// Problems that the types cannot rule out, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let usable = |c: char| c.is_ascii_punctuation() && !matches!(c, '@' | '.' | '"' | '\\');
        let mut delimiter = self.delimiter.chars();
        match (delimiter.next(), delimiter.next()) {
            (None, _) => {}
            (Some(c), None) if usable(c) => {}
            _ => problems.push(format!(
                "mailbox.delimiter: {:?} is not one character such as \"+\" or \"-\"",
                self.delimiter
            )),
        }
        if !self.postmaster.is_empty()
            && crate::accounts::AccountName::parse(&self.postmaster).is_none()
        {
            problems.push(format!(
                "mailbox.postmaster: {:?} is not the address of an account",
                self.postmaster
            ));
        }
        problems.extend(self.pop3.validate());
        problems
    }

    /// Where the accounts file is.
    #[must_use]
    pub fn accounts_path(&self, server: &ServerConfig) -> PathBuf {
        self.accounts_file
            .clone()
            .unwrap_or_else(|| server.data_dir.join("accounts"))
    }

    /// Where the mailboxes are.
    #[must_use]
    pub fn mail_path(&self, server: &ServerConfig) -> PathBuf {
        self.mail_dir
            .clone()
            .unwrap_or_else(|| server.data_dir.join("mailboxes"))
    }
}

/// POP3 (RFC 1939): where it listens and what a client may ask of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pop3Config {
    /// Addresses to listen on. An empty list turns POP3 off.
    pub listeners: Vec<Pop3Listener>,
    /// Connections in all; more are told to try later and closed.
    pub connections: NonZeroU32,
    /// Connections of one client address (IPv6: of one /64 network).
    pub connections_per_client: NonZeroU32,
    /// Wait for the next command of a client that has logged in. RFC 1939 section 3 asks for at
    /// least ten minutes.
    pub idle_timeout: Period,
    /// Wait for the next command of a client that has not logged in, and for TLS handshakes:
    /// shorter, because strangers hold these connections.
    pub login_timeout: Period,
    /// Wait for a client to take in some of what it asked for.
    pub write_timeout: Period,
    /// Wrong passwords in one session before it is closed.
    pub auth_failures: NonZeroU32,
    /// Wait before a wrong password is answered; it doubles with each of the session.
    pub auth_failure_delay: Period,
    /// Unknown or malformed commands in one session before it is closed.
    pub bad_commands: NonZeroU32,
    /// Messages that one session shows. A maildrop with more shows its oldest ones; the rest
    /// appear when these have been deleted. Each costs about 100 bytes while the session lasts.
    pub messages: NonZeroU32,
    /// How long sessions may finish the command that they are at when the service stops.
    pub drain_timeout: Period,
}

impl Default for Pop3Config {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let listener = |port, role| Pop3Listener {
            address: SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)),
            role,
        };
        Self {
            listeners: vec![
                listener(110, Pop3Role::Pop3),
                listener(995, Pop3Role::Pop3s),
            ],
            connections: number(4_096),
            connections_per_client: number(32),
            idle_timeout: Period::seconds(600),
            login_timeout: Period::seconds(60),
            write_timeout: Period::seconds(120),
            auth_failures: number(3),
            auth_failure_delay: Period::seconds(1),
            bad_commands: number(10),
            messages: number(100_000),
            drain_timeout: Period::seconds(10),
        }
    }
}

impl Pop3Config {
    fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.idle_timeout < Period::seconds(600) {
            problems.push(
                "mailbox.pop3.idle_timeout: RFC 1939 section 3 asks for at least 10m".to_owned(),
            );
        }
        for (key, period) in [
            ("login_timeout", self.login_timeout),
            ("write_timeout", self.write_timeout),
        ] {
            if period < Period::seconds(1) {
                problems.push(format!("mailbox.pop3.{key}: must be at least 1s"));
            }
        }
        problems
    }
}

/// One address on which POP3 listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pop3Listener {
    /// Address and port, e.g. `[::]:110` for every address of the machine, IPv4 included.
    pub address: SocketAddr,
    /// Whether TLS starts at once or on demand.
    pub role: Pop3Role,
}

/// How a POP3 listener begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pop3Role {
    /// Plain text at first; STLS (RFC 2595) must come before any password.
    Pop3,
    /// TLS from the first byte (RFC 8314 section 3.2).
    Pop3s,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(MailboxConfig::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn problems_name_their_keys() {
        let config = MailboxConfig {
            delimiter: "++".to_owned(),
            postmaster: "nobody".to_owned(),
            pop3: Pop3Config {
                idle_timeout: Period::seconds(1),
                login_timeout: Period::seconds(0),
                ..Pop3Config::default()
            },
            ..MailboxConfig::default()
        };
        let problems = config.validate();
        for key in ["delimiter", "postmaster", "idle_timeout", "login_timeout"] {
            assert!(problems.iter().any(|p| p.contains(key)), "{problems:?}");
        }
    }
}
