//! TLS as a client of other mail servers (RFC 3207, RFC 7435): how a client looks at a server's
//! certificate.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::provider;

/// The two ways to speak TLS. Shared by all connections, so that sessions are resumed.
#[derive(Debug)]
pub struct TlsClient {
    opportunistic: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
}

impl TlsClient {
    /// With the system's trust anchors, and those of a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or is no PEM file.
    pub fn new(ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a trust anchor of the system cannot be read");
        }
        let mut anchors = found.certs;
        if let Some(file) = ca_file {
            let context = || format!("trust anchors of {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(context)? {
                anchors.push(certificate.with_context(context)?);
            }
        }
        let provider = provider();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(anchors);
        let verifier: Arc<dyn ServerCertVerifier> = if roots.is_empty() {
            // Nothing can be verified then; required TLS fails, as it must.
            tracing::warn!(
                "the system has no trust anchors: routes that require TLS cannot deliver"
            );
            Arc::new(NoAnchors(provider.clone()))
        } else {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .context("setting up certificate verification")?
        };
        Ok(Self {
            opportunistic: client_config(&provider, Arc::new(AnyCertificate(provider.clone())))?,
            verified: client_config(&provider, verifier)?,
        })
    }

    /// The configuration that verifies the server's certificate for its name, or the one that takes
    /// whatever is shown.
    #[must_use]
    pub fn config(&self, verify: bool) -> Arc<ClientConfig> {
        if verify {
            self.verified.clone()
        } else {
            self.opportunistic.clone()
        }
    }
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("setting up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes every certificate. Opportunistic TLS keeps passive readers out; against an active one
/// it would be no better with verification, because he could as well take STARTTLS away.
/// Signatures are not looked at for the same reason, and because the odd certificates of
/// old mail servers would only make us fall back to plain text.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes no certificate: there is nothing to verify it against.
#[derive(Debug)]
struct NoAnchors(Arc<CryptoProvider>);

impl NoAnchors {
    fn refusal() -> rustls::Error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)
    }
}

impl ServerCertVerifier for NoAnchors {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(Self::refusal())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::refusal())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::refusal())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
