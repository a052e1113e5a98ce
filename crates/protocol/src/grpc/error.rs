//! Why services cannot be set up to talk.

use std::path::PathBuf;

/// What is wrong with `[services]`, or with the place that it names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Mail and passwords would cross a network in the clear.
    #[error(
        "services.{key}: {address} is not on loopback, so mutual TLS is needed: set services.ca, \
         services.certificate and services.key (or services.allow_insecure = true, if the \
         network is trusted)"
    )]
    Insecure {
        /// The key that names the address.
        key: String,
        /// The address.
        address: String,
    },
    /// Some, but not all three, of the files of mutual TLS are set.
    #[error(
        "services.{missing}: is missing; services.ca, services.certificate and services.key belong together"
    )]
    IncompleteTls {
        /// The key that is missing.
        missing: &'static str,
    },
    /// Not an address of a service.
    #[error("services.{key}: {address:?} is not an address such as \"{example}\"")]
    Address {
        /// The key that names the address.
        key: String,
        /// The address.
        address: String,
        /// One that would do.
        example: &'static str,
    },
    /// A file of mutual TLS cannot be read.
    #[error("services.{key}: reading {path}: {source}", path = path.display())]
    File {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The files are no certificate and key.
    #[error("services.certificate, services.key, services.ca: {0}")]
    Tls(#[source] tonic::transport::Error),
    /// The address is taken, or not this machine's.
    #[error("listening on {address} for other services: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}
