//! Real handshakes over loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use postrider_tls::client::TlsClient;
use postrider_tls::{ServerCertificate, TlsConfig};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Shakes hands once; the certificate that the client saw and whether the session was resumed.
async fn handshake(
    server: &ServerCertificate,
    client: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<(CertificateDer<'static>, bool)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(server.server_config());
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        stream.write_all(b"220 here\r\n").await?;
        stream.shutdown().await
    });
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(client).connect(name, stream).await?;
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).await?;
    assert_eq!(greeting, "220 here\r\n");
    serving.await??;
    let connection = stream.get_ref().1;
    let seen = connection.peer_certificates().unwrap()[0].clone();
    let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    Ok((seen, resumed))
}

fn load(folder: &Path) -> Arc<ServerCertificate> {
    ServerCertificate::load(&TlsConfig::default(), "mail.example.org", folder).unwrap()
}

/// Certificate and key files of a self-signed pair for `name`.
fn pair(folder: &Path, name: &str) -> std::path::PathBuf {
    postrider_tls::self_signed::ensure(name, &folder.join(name)).unwrap()
}

#[tokio::test]
async fn a_mail_server_takes_any_certificate_and_sessions_resume() {
    let folder = tempfile::tempdir().unwrap();
    let server = load(folder.path());
    assert!(server.is_self_signed());
    let client = TlsClient::new(None).unwrap().config(false);
    let (seen, resumed) = handshake(&server, client.clone(), "anything.example.net")
        .await
        .unwrap();
    assert_eq!(seen, server.end_entity());
    assert!(!resumed);
    let (_, resumed) = handshake(&server, client, "anything.example.net")
        .await
        .unwrap();
    assert!(resumed);
}

#[tokio::test]
async fn a_verifying_client_trusts_the_named_file_and_no_other_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = load(folder.path());
    let trusting = TlsClient::new(Some(server.certificate_file()))
        .unwrap()
        .config(true);
    handshake(&server, trusting.clone(), "mail.example.org")
        .await
        .unwrap();
    handshake(&server, trusting.clone(), "mx.example.org")
        .await
        .unwrap_err();
    let strangers = TlsClient::new(None).unwrap().config(true);
    handshake(&server, strangers, "mail.example.org")
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_reload_shows_the_new_pair_and_keeps_the_old_one_if_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (
        pair(folder.path(), "one.example.org"),
        pair(folder.path(), "two.example.org"),
    );
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let install = |from: &Path, to: &Path| std::fs::copy(from, to).unwrap();
    install(&first, &certificate);
    install(&first, &key);
    let config = TlsConfig {
        certificate: Some(certificate.clone()),
        key: Some(key.clone()),
    };
    let server = ServerCertificate::load(&config, "unused", folder.path()).unwrap();
    let client = TlsClient::new(None).unwrap().config(false);
    let before = server.end_entity();

    // Half of a renewal: the key does not fit.
    install(&second, &certificate);
    let error = format!("{:#}", server.reload().unwrap_err());
    assert!(
        error.contains("tls.key") && error.contains("no pair"),
        "{error}"
    );
    let (seen, _) = handshake(&server, client.clone(), "a.example")
        .await
        .unwrap();
    assert_eq!(seen, before);

    install(&second, &key);
    server.reload().unwrap();
    let (seen, _) = handshake(&server, client, "b.example").await.unwrap();
    assert_ne!(seen, before);
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let load = |certificate: Option<&str>, key: Option<&str>| {
        let config = TlsConfig {
            certificate: certificate.map(|name| folder.path().join(name)),
            key: key.map(|name| folder.path().join(name)),
        };
        let error = ServerCertificate::load(&config, "a.example", folder.path()).unwrap_err();
        format!("{error:#}")
    };
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    assert!(load(Some("c.pem"), None).contains("tls.key: is missing"));
    assert!(load(None, Some("k.pem")).contains("tls.certificate: is missing"));
    assert!(load(Some("c.pem"), Some("k.pem")).contains("tls.certificate: reading"));
    assert!(load(Some("empty.pem"), Some("k.pem")).contains("holds no PEM certificate"));
}
