//! TLS to Redis.

use std::path::Path;

use postrider_protocol::QueueId;
use postrider_queue::store::Store as _;
use postrider_queue::store::redis::{RedisConfig, RedisStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::support::redis_server::RedisServer;
use crate::support::{message, settings};

/// An authority, and a certificate of it for the server and one for clients.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "the authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for (name, host) in [("server", "127.0.0.1"), ("client", "queue.test")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn redis_is_reached_with_tls_and_a_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let path = |name: &str| dir.path().join(name);
    let server = RedisServer::with_tls(dir.path());
    let good = RedisConfig {
        url: format!("rediss://127.0.0.1:{}/0", server.tls_port()),
        ca: Some(path("ca.pem")),
        certificate: Some(path("client.pem")),
        key: Some(path("client.key")),
        ..RedisConfig::default()
    };
    let store = RedisStore::open(&good, settings()).await.unwrap();
    let mut wakes = store.watch();
    let new = message(QueueId::new(), 100_000, &[("a@x.test", "smtp:x.test")]);
    assert!(store.enqueue(vec![new]).await[0].is_ok());
    // Those who listen do so over TLS as well.
    let woken = tokio::time::timeout(std::time::Duration::from_secs(5), wakes.recv()).await;
    woken.unwrap().unwrap();

    let refusal = async |config: RedisConfig| match RedisStore::open(&config, settings()).await {
        Ok(_) => panic!("it was accepted"),
        Err(error) => format!("{error:#}"),
    };
    // Nobody who would vouch for the server.
    let told = refusal(RedisConfig {
        ca: None,
        ..good.clone()
    })
    .await;
    assert!(told.contains("certificate"), "{told}");
    // No certificate to show.
    refusal(RedisConfig {
        certificate: None,
        key: None,
        ..good.clone()
    })
    .await;
    // A certificate for another name.
    let other = good.url.replace("127.0.0.1", "localhost");
    let told = refusal(RedisConfig { url: other, ..good }).await;
    assert!(told.contains("certificate"), "{told}");
}
