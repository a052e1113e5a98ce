//! What every service must know alike.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every service must know alike: the server's name, its domains, where its data is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The name that this server calls itself by: in the greeting, in EHLO, in Received and in
    /// DSNs. It should resolve to the server's address and back.
    pub hostname: String,
    /// The domains whose mailboxes are here. Mail to any other domain is relayed, for those who may.
    pub domains: Vec<String>,
    /// Where the embedded store, bodies, mailboxes and accounts live, unless a section says otherwise.
    pub data_dir: PathBuf,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            domains: Vec::new(),
            data_dir: PathBuf::from("/var/lib/postrider"),
        }
    }
}

impl ServerConfig {
    /// What the types cannot say: problems, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_domain(&self.hostname) {
            problems.push(format!(
                "server.hostname: {:?} is not a host name such as \"mail.example.org\"",
                self.hostname
            ));
        }
        for domain in &self.domains {
            if !is_domain(domain) {
                problems.push(format!(
                    "server.domains: {domain:?} is not a domain such as \"example.org\""
                ));
            }
        }
        problems
    }
}

/// A domain of RFC 5321 section 4.1.2 in its ASCII form: labels of letters, digits and inner hyphens.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_told() {
        assert!(ServerConfig::default().validate().is_empty());
        let config = ServerConfig {
            hostname: "mail.example.org.".to_owned(),
            domains: ["example.org", "", "-a.test", "a b", "xn--bcher-kva.example"]
                .map(str::to_owned)
                .to_vec(),
            ..ServerConfig::default()
        };
        assert_eq!(config.validate().len(), 4, "{:?}", config.validate());
    }
}
