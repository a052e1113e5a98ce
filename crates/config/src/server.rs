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
