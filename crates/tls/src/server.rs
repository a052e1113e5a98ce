//! The server's certificate, which can be replaced while connections are open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::{TlsConfig, provider, self_signed};

/// The certificate of all TLS listeners of a process, and the settings that go with it.
#[derive(Debug)]
pub struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    self_signed: bool,
    current: Arc<Current>,
    server_config: Arc<ServerConfig>,
}

/// The pair in use. New handshakes see a new one; open connections do not notice.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ServerCertificate {
    /// Reads the configured pair, or makes a self-signed one for `hostname` in `data_dir` if none is
    /// configured.
    ///
    /// # Errors
    /// A file cannot be read, holds no certificate or key, or the two do not fit together.
    pub fn load(config: &TlsConfig, hostname: &str, data_dir: &Path) -> anyhow::Result<Arc<Self>> {
        let (certificate, key, self_signed) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone(), false),
            (None, None) => {
                let path = self_signed::ensure(hostname, data_dir)?;
                (path.clone(), path, true)
            }
            _ => bail!(config.validate().join("; ")),
        };
        let current = Arc::new(Current(ArcSwap::from_pointee(read(&certificate, &key)?)));
        let mut server_config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        // A client that comes back need not pay for a whole handshake again.
        server_config.ticketer = Ticketer::new()?;
        // One ticket is enough for the clients that resume at all; the default is two.
        server_config.send_tls13_tickets = 1;
        Ok(Arc::new(Self {
            certificate,
            key,
            self_signed,
            current,
            server_config: Arc::new(server_config),
        }))
    }

    /// What every TLS listener uses. It stays the same over reloads.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server_config.clone()
    }

    /// Reads the files again. New handshakes see the new pair.
    ///
    /// # Errors
    /// As for [`ServerCertificate::load`]; the old pair stays in use.
    pub fn reload(&self) -> anyhow::Result<()> {
        let pair =
            read(&self.certificate, &self.key).context("the old certificate stays in use")?;
        self.current.0.store(Arc::new(pair));
        Ok(())
    }

    /// Whether nobody vouches for it but itself.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.self_signed
    }

    /// The file that the certificate was read from, e.g. to tell a client what to trust.
    #[must_use]
    pub fn certificate_file(&self) -> &Path {
        &self.certificate
    }

    /// The server's own certificate as it is in use now, without its chain.
    ///
    /// # Panics
    /// Never: a pair without a certificate is not taken into use.
    #[must_use]
    pub fn end_entity(&self) -> CertificateDer<'static> {
        self.current.0.load().cert[0].clone()
    }
}

/// Reads a pair and checks that it is one.
fn read(certificate: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("tls.certificate: reading {}", certificate.display()))?;
    if chain.is_empty() {
        bail!(
            "tls.certificate: {} holds no PEM certificate",
            certificate.display()
        );
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("tls.key: reading {}", key.display()))?;
    // This refuses a key that does not belong to the certificate.
    CertifiedKey::from_der(chain, secret, &provider()).with_context(|| {
        format!(
            "tls.key: {} and {} are no pair",
            key.display(),
            certificate.display()
        )
    })
}
