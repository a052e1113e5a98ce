//! The section `[tls]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The certificate that mail programs and other servers see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificate for the server's hostname, followed by its chain, e.g.
    /// "/etc/letsencrypt/live/mail.example.org/fullchain.pem". If it is unset, a self-signed certificate
    /// is made in the data folder: enough for other mail servers, which take any, but mail programs
    /// will warn. Read again on reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of the certificate. Read again on reload; if the two do
    /// not fit together then, the old pair stays in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl TlsConfig {
    /// What the types cannot say: problems, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => {
                vec!["tls.key: is missing, and tls.certificate is set".to_owned()]
            }
            (None, Some(_)) => {
                vec!["tls.certificate: is missing, and tls.key is set".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}
