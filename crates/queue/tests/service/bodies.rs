//! Bodies of larger messages are stored beside the queue, and go when the message goes.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use postrider_protocol::api::Queue;
use postrider_protocol::queue_v1::{Body, OutcomeKind, body, enqueue_result};
use tokio_util::sync::CancellationToken;

use crate::kit::{World, config, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_body_lives_as_long_as_its_message() {
    let world = World::new(config()).await;
    let shutdown = CancellationToken::new();
    let running = {
        let (service, shutdown) = (world.service.clone(), shutdown.clone());
        tokio::spawn(async move { service.run(shutdown).await })
    };
    let content = Bytes::from(vec![b'x'; 300_000]);
    let pieces: Vec<_> = content
        .chunks(7000)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let stored = world
        .service
        .put_body(futures_util::stream::iter(pieces).boxed())
        .await
        .unwrap();
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
    let Some(body::Content::Stored(name)) = delivery.body.clone().unwrap().content else {
        panic!("not stored");
    };
    let back: Vec<Bytes> = world
        .service
        .get_body(name.clone())
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(back.concat(), content);
    worker.complete(&delivery, OutcomeKind::Delivered);
    let path = world.dir.path().join("bodies").join(&name);
    assert!(path.exists());
    let mut tries = 0;
    while path.exists() {
        tries += 1;
        assert!(tries < 100, "the body stays");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    drop(worker);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_content_is_stored_beside_the_queue() {
    let world = World::new(config()).await;
    let content = vec![b'y'; 200_000];
    let result = world.enqueue(message("smtp:a.test", &content)).await;
    assert_eq!(result.status(), enqueue_result::Status::Accepted);
    let mut worker = world.worker("w", 1).await;
    let delivery = worker.deliveries().await.remove(0);
    let body = delivery.body.unwrap();
    assert_eq!(body.size, 200_000);
    assert!(matches!(body.content, Some(body::Content::Stored(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_body_is_refused() {
    let world = World::new(config()).await;
    let mut new = message("smtp:a.test", b"");
    new.body = Some(Body {
        size: 3,
        content: Some(body::Content::Stored("0".repeat(32))),
    });
    let result = world.enqueue(new).await;
    assert_eq!(
        result.status(),
        enqueue_result::Status::Invalid,
        "{result:?}"
    );
}
