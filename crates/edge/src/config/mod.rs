//! The section `[edge]` of the config file.
//!
//! The doc comments are the reference that users read: meaning, unit, example, and why the
//! default is what it is.

mod limits;
mod listener;
mod submission;

use std::collections::HashSet;

use ipnet::IpNet;
use postrider_config::values::{Period, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use limits::{Limits, Timeouts};
pub use listener::{ListenerConfig, Role};
pub use submission::{Submission, TenantName};

/// The receiving side: who may hand in mail, where, how much, and under which policy.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeConfig {
    /// Where mail is taken, and from whom. Addresses are bound at start; a change needs a restart.
    pub listeners: Vec<ListenerConfig>,

    /// Networks whose clients may relay without a password and are free of the limit of
    /// connections a client, e.g. `["192.0.2.0/24", "2001:db8::/32"]`. None by default: an open
    /// relay is never an accident of the network that one happens to stand in.
    #[schemars(with = "Vec<String>")]
    pub trusted_networks: Vec<IpNet>,

    /// The stages that judge a session, in the order in which they are asked. The first that
    /// refuses decides. A stage that is left out does not judge; `relay` cannot be left out.
    pub policy: Vec<StageName>,

    /// What the `sender` stage does when an authenticated client sends in the name of another
    /// address than its account's: "annotate" notes it in the journey, "reject" answers 550 5.7.1.
    pub foreign_sender: ForeignSender,

    /// How the tenant of a submitted message is named: "domain" (of the account), "account", or
    /// "none". Tenants share a destination by their weights (set at the queue), and suspensions and
    /// filters go by them. Mail from other servers belongs to no tenant.
    pub tenant: TenantName,

    /// What authenticated clients may ask for besides delivery.
    pub submission: Submission,

    /// What one client, one session and one message may ask for.
    pub limits: Limits,

    /// How long the other side may keep a session waiting.
    pub timeouts: Timeouts,

    /// Content up to this size goes to the queue in one piece with its envelope; larger content
    /// is streamed into the body store while it arrives, so that a message in flight never holds
    /// more memory than this. 64 KiB covers most mail without attachments. From "1KiB" to "2MiB".
    pub inline_body: Size,

    /// How long sessions that are in the middle of a transaction may finish it after the stop signal.
    /// Idle sessions are told 421 at once, others after the transaction, whatever they have
    /// pipelined behind it. Content that has arrived whole always gets its reply.
    pub drain_timeout: Period,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listeners: ListenerConfig::standard(),
            trusted_networks: Vec::new(),
            policy: StageName::standard(),
            foreign_sender: ForeignSender::Annotate,
            tenant: TenantName::Domain,
            submission: Submission::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            inline_body: Size::kib(64),
            drain_timeout: Period::seconds(30),
        }
    }
}

impl EdgeConfig {
    /// What is wrong with this section, each problem with its key; empty if nothing is.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.listeners.is_empty() {
            problems.push("edge.listeners: at least one is needed".to_owned());
        }
        let mut seen = HashSet::new();
        for listener in &self.listeners {
            if listener.address.port() != 0 && !seen.insert(listener.address) {
                problems.push(format!(
                    "edge.listeners: {} is named twice",
                    listener.address
                ));
            }
        }
        let mut stages = HashSet::new();
        for stage in &self.policy {
            if !stages.insert(*stage) {
                problems.push(format!("edge.policy: \"{stage}\" is named twice"));
            }
        }
        if !stages.contains(&StageName::Relay) {
            problems.push(
                "edge.policy: \"relay\" is missing, without it this server is an open relay"
                    .to_owned(),
            );
        }
        if self.inline_body.0 < 1024 || self.inline_body.0 > Size::mib(2).0 {
            problems.push("edge.inline_body: must lie between 1KiB and 2MiB".to_owned());
        }
        self.submission.validate(&mut problems);
        self.limits.validate(&mut problems);
        self.timeouts.validate(&mut problems);
        problems
    }
}

/// A stage of the policy chain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum StageName {
    /// Connections in all and per client.
    Connections,
    /// Whether the sender's address can be answered at all, and is the client's own.
    Sender,
    /// Mail to other domains only from the authenticated and from trusted networks.
    Relay,
    /// Whether the recipient exists, for the domains of this server.
    Recipients,
    /// Messages that have passed too many servers.
    Loops,
}

impl StageName {
    /// Every stage, in the order that refuses most cheaply first.
    #[must_use]
    pub fn standard() -> Vec<Self> {
        vec![
            Self::Connections,
            Self::Sender,
            Self::Relay,
            Self::Recipients,
            Self::Loops,
        ]
    }

    /// The name as it stands in the config and in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Sender => "sender",
            Self::Relay => "relay",
            Self::Recipients => "recipients",
            Self::Loops => "loops",
        }
    }
}

impl std::fmt::Display for StageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do about an authenticated client that sends in another name than its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForeignSender {
    /// Accept, and note it in the message's journey.
    Annotate,
    /// 550 5.7.1.
    Reject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(EdgeConfig::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn each_problem_is_told_with_its_key() {
        let mut config = EdgeConfig {
            policy: vec![StageName::Loops, StageName::Loops],
            inline_body: Size(1),
            ..EdgeConfig::default()
        };
        config.listeners.push(config.listeners[0].clone());
        config.limits.recipients = 99;
        config.submission.max_hold = Period::seconds(1_000_000_000);
        let problems = config.validate().join("\n");
        for key in [
            "edge.policy: \"loops\" is named twice",
            "\"relay\" is missing",
            "edge.inline_body",
            "is named twice",
            "edge.limits.recipients",
            "edge.submission.max_hold",
        ] {
            assert!(problems.contains(key), "{key} not in:\n{problems}");
        }
        config.listeners.clear();
        assert!(config.validate()[0].contains("edge.listeners"));
    }

    #[test]
    fn it_reads_what_it_documents() {
        let document = postrider_config::Document::parse(
            r#"
            [edge]
            trusted_networks = ["192.0.2.0/24", "2001:db8::/32"]
            policy = ["relay", "recipients"]
            foreign_sender = "reject"
            tenant = "account"
            inline_body = "32KiB"
            [[edge.listeners]]
            address = "127.0.0.1:2525"
            role = "mx"
            [edge.submission]
            max_hold = "7days"
            [edge.limits]
            message_size = "10MiB"
            [edge.timeouts]
            command = "2m"
            "#,
        )
        .unwrap();
        let config: EdgeConfig = document.section("edge").unwrap();
        assert_eq!(config.trusted_networks.len(), 2);
        assert_eq!(config.policy, [StageName::Relay, StageName::Recipients]);
        assert_eq!(config.listeners[0].role, Role::Mx);
        assert_eq!(config.tenant, TenantName::Account);
        assert_eq!(config.submission.max_hold, Period::seconds(604_800));
        assert_eq!(config.limits.message_size, Size::mib(10));
        assert_eq!(config.timeouts.command, Period::seconds(120));
        assert_eq!(config.validate(), Vec::<String>::new());
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in [
            "[edge]\nlistener = []",
            "[edge.limits]\nrecipient = 1",
            "[edge.timeouts]\ncommands = \"1m\"",
            "[[edge.listeners]]\naddress = \"127.0.0.1:1\"\nrole = \"mx\"\ntls = true",
            "[edge]\npolicy = [\"relays\"]",
            "[edge]\ntenant = \"domains\"",
            "[edge.submission]\nmax_holds = \"1d\"",
        ] {
            let document = postrider_config::Document::parse(text).unwrap();
            assert!(document.section::<EdgeConfig>("edge").is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_no_key_may_be_misspelt() {
        let written = toml::Table::try_from(EdgeConfig::default()).unwrap();
        let read: EdgeConfig = written.clone().try_into().unwrap();
        assert_eq!(toml::Table::try_from(read).unwrap(), written);
        for misspelt in misspellings(&written) {
            let text = misspelt.to_string();
            assert!(misspelt.try_into::<EdgeConfig>().is_err(), "{text}");
        }
    }

    /// The table with each of its keys, at any depth, misspelt in turn.
    fn misspellings(table: &toml::Table) -> Vec<toml::Table> {
        let mut all = Vec::new();
        for (key, value) in table {
            let mut renamed = table.clone();
            renamed.remove(key);
            renamed.insert(format!("{key}x"), value.clone());
            all.push(renamed);
            if let toml::Value::Table(inner) = value {
                for misspelt in misspellings(inner) {
                    let mut outer = table.clone();
                    outer.insert(key.clone(), toml::Value::Table(misspelt));
                    all.push(outer);
                }
            }
        }
        all
    }
}
