//! Redis' own settings are checked before it is trusted.

use postrider_protocol::QueueId;
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::redis::{Durability, RedisConfig};
use postrider_queue::store::{Store as _, StoreError};

use crate::support::redis_server::RedisServer;
use crate::support::{message, settings};

async fn refusal(config: &RedisConfig) -> String {
    match RedisStore::open(config, settings()).await {
        Ok(_) => panic!("an unsafe server was accepted"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn unsafe_settings_are_refused_with_what_to_set() {
    for (settings, wanted) in [
        (vec![("appendonly", "no")], "`appendonly yes`"),
        (
            vec![("appendonly", "yes"), ("appendfsync", "everysec")],
            "`appendfsync always`",
        ),
        (
            vec![
                ("appendonly", "yes"),
                ("appendfsync", "always"),
                ("maxmemory-policy", "allkeys-lru"),
            ],
            "`maxmemory-policy noeviction`",
        ),
    ] {
        let server = RedisServer::with(&settings);
        let told = refusal(&server.config()).await;
        assert!(
            told.contains(wanted) && told.contains("allow_unsafe"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn unsafe_settings_are_taken_if_told_so() {
    let server = RedisServer::with(&[("appendonly", "no")]);
    let config = RedisConfig {
        allow_unsafe: true,
        ..server.config()
    };
    let store = RedisStore::open(&config, settings()).await.unwrap();
    let results = store
        .enqueue(vec![message(
            QueueId::new(),
            10,
            &[("a@x.test", "smtp:x.test")],
        )])
        .await;
    assert!(results[0].is_ok());
}

#[tokio::test]
async fn without_enough_replicas_nothing_is_acknowledged() {
    let server = RedisServer::start();
    let config = RedisConfig {
        durability: Durability::Replicated(1),
        response_timeout: postrider_config::values::Period(std::time::Duration::from_millis(400)),
        ..server.config()
    };
    let store = RedisStore::open(&config, settings()).await.unwrap();
    let new = message(QueueId::new(), 10, &[("a@x.test", "smtp:x.test")]);
    let results = store.enqueue(vec![new.clone()]).await;
    assert!(
        matches!(results[0], Err(StoreError::Unconfirmed(_))),
        "{results:?}"
    );
    // It is there, without a copy: another queue process would hand it out.
    let there = store.show(new.queue_id.parse().unwrap()).await.unwrap();
    assert!(there.is_some());

    // With a replica, the same call succeeds.
    let replica = RedisServer::start();
    replica
        .command(&["REPLICAOF", "127.0.0.1", &server.port().to_string()])
        .unwrap();
    let mut last = results;
    for _ in 0..50 {
        last = store.enqueue(vec![new.clone()]).await;
        if last[0].is_ok() {
            break;
        }
    }
    assert!(last[0].is_ok(), "{last:?}");
    let told = refusal(&replica.config()).await;
    assert!(told.contains("replica"), "{told}");
}

#[tokio::test]
async fn a_missing_server_is_an_error_that_names_it() {
    let config = RedisConfig {
        url: "redis://127.0.0.1:1/0".to_owned(),
        ..RedisConfig::default()
    };
    let told = refusal(&config).await;
    assert!(told.contains("127.0.0.1:1"), "{told}");
}

#[tokio::test]
async fn a_password_comes_from_its_file() {
    let server = RedisServer::start();
    server
        .command(&["CONFIG", "SET", "requirepass", "hunter2"])
        .unwrap();
    let told = refusal(&server.config()).await;
    assert!(told.to_lowercase().contains("auth"), "{told}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let config = RedisConfig {
        password_file: Some(file.path().to_owned()),
        ..server.config()
    };
    RedisStore::open(&config, settings()).await.unwrap();
    std::fs::write(file.path(), "wrong\n").unwrap();
    let told = refusal(&config).await;
    assert!(
        !told.contains("wrong\n") && !told.contains("hunter2"),
        "{told}"
    );
}
