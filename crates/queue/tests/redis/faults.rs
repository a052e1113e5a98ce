//! What Redis can do to a store.

use std::time::Duration;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::OutcomeKind;
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Completed, Store as _, StoreError};

use crate::load::Load;
use crate::support::redis_server::RedisServer;
use crate::support::{completion, message, outcome, settings, worker};

fn to_x(id: QueueId, size: usize) -> postrider_protocol::queue_v1::NewMessage {
    message(id, size, &[("a@x.test", "smtp:x.test")])
}

#[tokio::test]
async fn scripts_are_loaded_again_when_they_are_gone() {
    let server = RedisServer::start();
    let store = RedisStore::open(&server.config(), settings())
        .await
        .unwrap();
    for _ in 0..3 {
        server.command(&["SCRIPT", "FLUSH"]).unwrap();
        assert!(store.enqueue(vec![to_x(QueueId::new(), 10)]).await[0].is_ok());
    }
}

#[tokio::test]
async fn a_full_server_takes_no_mail_but_drains() {
    let server = RedisServer::start();
    let store = RedisStore::open(&server.config(), settings())
        .await
        .unwrap();
    let id = QueueId::new();
    assert!(store.enqueue(vec![to_x(id, 5000)]).await[0].is_ok());
    server
        .command(&["CONFIG", "SET", "maxmemory", "1mb"])
        .unwrap();
    let refused = store.enqueue(vec![to_x(QueueId::new(), 5000)]).await;
    assert!(
        matches!(&refused[0], Err(StoreError::Unavailable(text)) if text.contains("OOM")),
        "{refused:?}"
    );
    let token = store.lease(worker("w", 1), 1).await.unwrap()[0].token;
    assert_eq!(
        store.renew(vec![token, token + 1]).await.unwrap().stale,
        [token + 1]
    );
    let pulled = store.pull(token, 10).await.unwrap().unwrap();
    let report = completion(
        pulled[0].delivery_id.parse().unwrap(),
        token,
        1,
        vec![outcome("a@x.test", OutcomeKind::Delivered)],
    );
    let mut stale = report.clone();
    stale.token += 1;
    assert!(matches!(
        store.complete(vec![stale]).await[0],
        Ok(Completed::Stale)
    ));
    assert!(matches!(
        store.complete(vec![report]).await[0],
        Ok(Completed::Done)
    ));
    store.give_back(vec![token]).await.unwrap();
    server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .unwrap();
    assert!(store.enqueue(vec![to_x(QueueId::new(), 5000)]).await[0].is_ok());
    let stats = store.stats().await.unwrap();
    assert_eq!(
        (stats.accepted, stats.delivered, stats.open, stats.messages),
        (2, 1, 1, 1)
    );
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_unavailable_until_it_is_none() {
    let server = RedisServer::start();
    let config = postrider_queue::store::redis::RedisConfig {
        connect_timeout: postrider_config::values::Period(Duration::from_millis(300)),
        ..server.config()
    };
    let store = RedisStore::open(&config, settings()).await.unwrap();
    // Nobody answers there, so it keeps its data and takes no writes.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let refused = store.enqueue(vec![to_x(QueueId::new(), 10)]).await;
    assert!(
        matches!(&refused[0], Err(StoreError::Unavailable(text)) if text.contains("replica")),
        "{refused:?}"
    );
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let id = QueueId::new();
    let mut result = store.enqueue(vec![to_x(id, 10)]).await;
    for _ in 0..20 {
        if result[0].is_ok() {
            break;
        }
        result = store.enqueue(vec![to_x(id, 10)]).await;
    }
    assert!(result[0].is_ok(), "{result:?}");
}

#[tokio::test]
async fn a_stopped_server_is_unavailable_in_time_and_then_back() {
    let mut server = RedisServer::start();
    let config = postrider_queue::store::redis::RedisConfig {
        connect_timeout: postrider_config::values::Period(Duration::from_millis(300)),
        ..server.config()
    };
    let store = RedisStore::open(&config, settings()).await.unwrap();
    let mut wakes = store.watch();
    server.kill();
    let started = std::time::Instant::now();
    let refused = store.enqueue(vec![to_x(QueueId::new(), 10)]).await;
    assert!(
        matches!(refused[0], Err(StoreError::Unconfirmed(_))),
        "it was sent before the end of the server was seen: {refused:?}"
    );
    let refused = store.enqueue(vec![to_x(QueueId::new(), 10)]).await;
    assert!(
        matches!(refused[0], Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(store.stats().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(3));
    server.run();
    let id = QueueId::new();
    let mut result = Err(StoreError::Unavailable(String::new()));
    for _ in 0..50 {
        result = store.enqueue(vec![to_x(id, 10)]).await.remove(0);
        if result.is_ok() {
            break;
        }
    }
    assert!(result.is_ok(), "{result:?}");
    // Whoever waits is told to look at everything, and hears of what is new.
    let everything =
        async { while wakes.recv().await.unwrap() != postrider_queue::store::Wake::Everything {} };
    tokio::time::timeout(Duration::from_secs(10), everything)
        .await
        .unwrap();
}

/// `kill -9` of Redis again and again while mail comes in and goes out: what was acknowledged is
/// there, once, and everything adds up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing_acknowledged() {
    let mut server = RedisServer::start();
    let store = RedisStore::open(&server.config(), settings())
        .await
        .unwrap();
    let load = Load::start(&store, 8, &["smtp:x.test".to_owned()]);
    for round in 0..6_u64 {
        tokio::time::sleep(Duration::from_millis(150 + 37 * round)).await;
        tokio::task::block_in_place(|| load.flows(10));
        server.kill();
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::task::block_in_place(|| server.run());
    }
    tokio::task::block_in_place(|| load.flows(10));
    let outcome = load.finish().await;
    assert_eq!(outcome.stale, 0, "a live lease's report was refused");
}
