//! TLS towards mail programs and other mail servers.
//!
//! Lives here: the server's certificate, with reload while connections are open
//! ([`ServerCertificate`]), the self-signed one that is made when none is configured
//! ([`self_signed`]), and the two ways in which a client looks at a server ([`client`]): take
//! whatever it shows, as opportunistic TLS between mail servers must (RFC 7435), or verify it.
//!
//! Must not live here: when to use which. That is the listeners' and the delivery's to say.
//! TLS between our own services is set up where gRPC is, in `postrider-protocol`; only its
//! certificates are made here ([`authority`]).
//!
//! There is one crypto library, aws-lc-rs, and it is named, never found by default
//! ([`provider`]). Versions are TLS 1.2 and 1.3 (RFC 8996 ended the others).

pub mod authority;
pub mod client;
mod config;
pub mod self_signed;
mod server;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use config::TlsConfig;
pub use server::ServerCertificate;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The crypto of every TLS connection.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Makes [`provider`] the process' default, for libraries that take no provider as an argument.
/// May be called more than once.
pub fn install_default_provider() {
    // It fails only if a default is set already, and only this function sets one.
    drop(aws_lc_rs::default_provider().install_default());
}
