//! Stored bodies in a bucket, against a server that speaks S3. Its address is in
//! `POSTRIDER_TEST_S3`, e.g. "http://127.0.0.1:5000" of `moto_server -p 5000` (Python's moto).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use postrider_protocol::api::Queue as _;
use postrider_protocol::queue_v1::{Body, OutcomeKind, body, enqueue_result};
use postrider_protocol::{Code, Status};
use postrider_queue::{BodiesKind, QueueConfig};
use tokio_util::sync::CancellationToken;

use crate::kit::{World, config, message};

const BUCKET: &str = "postrider-test";

fn endpoint() -> String {
    std::env::var("POSTRIDER_TEST_S3").unwrap_or_else(|_| {
        panic!("this test needs a server that speaks S3; name it in POSTRIDER_TEST_S3")
    })
}

/// A plain request, as a test server takes it.
fn ask(method: &str, path: &str, content: &str) -> String {
    let endpoint = endpoint();
    let host = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{content}",
        content.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn is_there(name: &str) -> bool {
    let listing = ask("GET", &format!("/{BUCKET}?list-type=2"), "");
    listing.contains(&format!("<Key>queue/bodies/{name}</Key>"))
}

fn in_bucket(credentials: &std::path::Path) -> QueueConfig {
    std::fs::write(
        credentials,
        "[default]\naws_access_key_id = test\naws_secret_access_key = hush\n",
    )
    .unwrap();
    ask("PUT", &format!("/{BUCKET}"), "");
    let mut config = config();
    config.bodies.kind = BodiesKind::S3;
    config.bodies.s3.bucket = BUCKET.to_owned();
    config.bodies.s3.prefix = "queue/bodies".to_owned();
    config.bodies.s3.endpoint = endpoint();
    config.bodies.s3.allow_http = true;
    config.bodies.s3.credentials_file = Some(credentials.to_owned());
    assert_eq!(config.validate(), Vec::<String>::new());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_live_in_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(in_bucket(&folder.path().join("credentials"))).await;
    let shutdown = CancellationToken::new();
    let running = {
        let (service, shutdown) = (world.service.clone(), shutdown.clone());
        tokio::spawn(async move { service.run(shutdown).await })
    };
    // Several parts, and the last one smaller than S3's least.
    for size in [300_000_usize, 20_000_001] {
        let content: Vec<u8> = (0..size).map(|at| (at / 1000) as u8).collect();
        let pieces: Vec<_> = content
            .chunks(70_000)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let stored = world
            .service
            .put_body(futures_util::stream::iter(pieces).boxed())
            .await
            .unwrap();
        assert_eq!(stored.size, size as u64);
        assert!(is_there(&stored.name));
        let mut new = message("smtp:a.test", b"");
        new.body = Some(Body {
            size: stored.size,
            content: Some(body::Content::Stored(stored.name.clone())),
        });
        let result = world.enqueue(new).await;
        assert_eq!(
            result.status(),
            enqueue_result::Status::Accepted,
            "{result:?}"
        );
        let mut worker = world.worker("w", 1).await;
        let delivery = worker.deliveries().await.remove(0);
        let back: Vec<Bytes> = world
            .service
            .get_body(stored.name.clone())
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert!(back.concat() == content, "{size} bytes came back otherwise");
        worker.complete(&delivery, OutcomeKind::Delivered);
        let mut tries = 0;
        while is_there(&stored.name) {
            tries += 1;
            assert!(tries < 200, "the body stays");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let missing = world.service.get_body(stored.name).await.err().unwrap();
        assert_eq!(missing.code(), Code::NotFound);
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_leaves_no_object() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(in_bucket(&folder.path().join("credentials"))).await;
    let piece = Bytes::from(vec![7; 9 << 20]);
    let broken = futures_util::stream::iter([Ok(piece), Err(Status::cancelled("gone"))]);
    assert!(world.service.put_body(broken.boxed()).await.is_err());
    let listing = ask("GET", &format!("/{BUCKET}?uploads"), "");
    assert!(!listing.contains("<UploadId>"), "{listing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = in_bucket(&folder.path().join("credentials"));
    let printed = format!("{config:?}");
    assert!(!printed.contains("hush"), "{printed}");
    config.bodies.s3.endpoint = "http://127.0.0.1:1".to_owned();
    let world = World::new(config).await;
    let error = world.service.get_body("0".repeat(32)).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(!error.message().contains("hush"), "{error}");
}
