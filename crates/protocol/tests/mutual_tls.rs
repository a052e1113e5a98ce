//! Who is let in, and where a service listens at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{FakeQueue, Running, code, message};
use postrider_protocol::Code;
use postrider_protocol::api::Queue as _;
use postrider_protocol::grpc::{self, Server, ServicesConfig, SetupError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A certificate authority that keeps its files in a folder.
struct Authority<'a> {
    folder: &'a Path,
    name: &'static str,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl<'a> Authority<'a> {
    fn new(folder: &'a Path, name: &'static str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let authority = Self {
            folder,
            name,
            issuer,
        };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn write(&self, file: &str, pem: &str) -> PathBuf {
        let path = self.folder.join(format!("{}-{file}", self.name));
        std::fs::write(&path, pem).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.folder.join(format!("{}-ca.pem", self.name))
    }

    /// The section of a service whose certificate it has signed.
    fn service(&self, ca: PathBuf) -> ServicesConfig {
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        ServicesConfig {
            ca: Some(ca),
            certificate: Some(self.write("service.pem", &certificate.pem())),
            key: Some(self.write("service.key", &key.serialize_pem())),
            // What is checked here is TLS alone.
            allow_insecure: false,
            ..ServicesConfig::default()
        }
    }
}

fn towards(server: &Running, scheme: &str, config: ServicesConfig) -> ServicesConfig {
    ServicesConfig {
        queue: format!("{scheme}://{}", server.address),
        mailbox: format!("{scheme}://{}", server.address),
        ..config
    }
}

#[tokio::test]
async fn only_services_of_the_same_authority_are_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let theirs = Authority::new(folder.path(), "theirs");
    let queue = Arc::new(FakeQueue::default());
    let server = Running::start(&queue, &ours.service(ours.ca())).await;

    let friend = grpc::queue(&towards(&server, "https", ours.service(ours.ca()))).unwrap();
    friend.enqueue(vec![message("x")]).await.unwrap();

    // A stranger that trusts us, with a certificate that we do not trust.
    let stranger = grpc::queue(&towards(&server, "https", theirs.service(ours.ca()))).unwrap();
    // One of us that is shown a certificate it does not trust.
    let careful = grpc::queue(&towards(&server, "https", ours.service(theirs.ca()))).unwrap();
    // No TLS at all.
    let plain = grpc::queue(&towards(&server, "http", ServicesConfig::default())).unwrap();
    let (one, two, three) = tokio::join!(
        stranger.enqueue(vec![message("x")]),
        careful.enqueue(vec![message("x")]),
        plain.enqueue(vec![message("x")]),
    );
    for refused in [one, two, three] {
        assert_eq!(code(refused), Code::Unavailable);
    }
    assert_eq!(queue.messages.load(std::sync::atomic::Ordering::SeqCst), 1);
    server.stop().await;
}

#[tokio::test]
async fn nothing_listens_off_loopback_without_tls_unless_told_by_name() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let bind = async |config: &ServicesConfig| {
        let server = Server::new().queue(Arc::new(FakeQueue::default()));
        server.bind("queue_listen", everywhere, config).await
    };
    let refused = bind(&ServicesConfig::default()).await.err().unwrap();
    assert!(matches!(refused, SetupError::Insecure { .. }), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("services.queue_listen: 0.0.0.0:0 is not on loopback")
    );
    let told = ServicesConfig {
        allow_insecure: true,
        ..ServicesConfig::default()
    };
    bind(&told).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    bind(&ours.service(ours.ca())).await.unwrap();
}

#[tokio::test]
async fn files_that_are_missing_or_wrong_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let mut config = ours.service(ours.ca());
    config.queue = "https://127.0.0.1:1".to_owned();
    config.key = Some(folder.path().join("missing"));
    let error = grpc::queue(&config).err().unwrap().to_string();
    assert!(error.starts_with("services.key: reading "), "{error}");
    config.key = config.ca.clone();
    let error = grpc::queue(&config).err().unwrap().to_string();
    assert!(
        error.starts_with("services.certificate, services.key"),
        "{error}"
    );
}
