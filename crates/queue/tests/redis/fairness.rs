//! Fair order and suspensions where queues are deep.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{NewMessage, OutcomeKind, Suspension};
use postrider_queue::policy::Policies;
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Store as _, StoreSettings};

use crate::support::redis_server::RedisServer;
use crate::support::{completion, message, outcome, settings, worker};

const DEEP: usize = 3_000;

fn new(tenant: &str, sender: &str, priority: i32) -> NewMessage {
    let mut message = message(QueueId::new(), 10, &[("a@x.test", "smtp:x.test")]);
    message.tenant = tenant.to_owned();
    message.priority = priority;
    message.envelope.as_mut().unwrap().reverse_path = sender.to_owned();
    message
}

async fn enqueue(store: &RedisStore, messages: Vec<NewMessage>) {
    assert!(store.enqueue(messages).await.iter().all(Result::is_ok));
}

/// Pulls until the message comes; how many came before it. Everything is delivered.
async fn ahead_of(store: &RedisStore, wanted: &NewMessage, most: usize) -> usize {
    let token = store.lease(worker("w", 1), 1).await.unwrap()[0].token;
    let mut ahead = 0;
    while ahead < most {
        let pulled = store.pull(token, 50).await.unwrap().unwrap();
        assert!(!pulled.is_empty(), "it never came");
        let place = pulled
            .iter()
            .position(|delivery| delivery.queue_id == wanted.queue_id);
        let reports = pulled.iter().map(|delivery| {
            let done = vec![outcome("a@x.test", OutcomeKind::Delivered)];
            completion(delivery.delivery_id.parse().unwrap(), token, 1, done)
        });
        let reports = store.complete(reports.collect()).await;
        assert!(reports.iter().all(Result::is_ok));
        if let Some(place) = place {
            store.give_back(vec![token]).await.unwrap();
            return ahead + place;
        }
        ahead += pulled.len();
    }
    panic!("{ahead} came before it");
}

async fn start() -> (RedisServer, std::sync::Arc<RedisStore>) {
    let server = RedisServer::start();
    let store = RedisStore::open(&server.config(), settings())
        .await
        .unwrap();
    (server, store)
}

#[tokio::test]
async fn nobody_waits_behind_another_tenant_s_or_sender_s_flood() {
    let (_server, store) = start().await;
    let flood = (0..DEEP).map(|_| new("big", "flood@x.test", 0));
    enqueue(&store, flood.collect()).await;
    let tenant = new("small", "flood@x.test", 0);
    enqueue(&store, vec![tenant.clone()]).await;
    assert!(ahead_of(&store, &tenant, DEEP).await < 100);
    let sender = new("big", "other@x.test", 0);
    enqueue(&store, vec![sender.clone()]).await;
    assert!(ahead_of(&store, &sender, DEEP).await < 200);
    let urgent = new("big", "flood@x.test", 9);
    enqueue(&store, vec![urgent.clone()]).await;
    assert!(ahead_of(&store, &urgent, DEEP).await < DEEP - 300);
}

#[tokio::test]
async fn tenants_share_by_weight() {
    let server = RedisServer::start();
    let settings = StoreSettings {
        policies: Arc::new(Policies {
            weights: vec![("c".to_owned(), 3)],
            ..Policies::default()
        }),
        ..settings()
    };
    let store = RedisStore::open(&server.config(), settings).await.unwrap();
    for tenant in ["a", "b", "c"] {
        let all = (0..1_000).map(|_| new(tenant, "s@x.test", 0));
        enqueue(&store, all.collect()).await;
    }
    let token = store.lease(worker("w", 1), 1).await.unwrap()[0].token;
    let mut came = HashMap::<String, usize>::new();
    let mut left = 1_000;
    while left > 0 {
        let pulled = store.pull(token, left.min(50)).await.unwrap().unwrap();
        assert!(!pulled.is_empty(), "{left} did not come");
        left -= pulled.len();
        let reports = pulled.iter().map(|delivery| {
            let done = vec![outcome("a@x.test", OutcomeKind::Delivered)];
            completion(delivery.delivery_id.parse().unwrap(), token, 1, done)
        });
        let reports = store.complete(reports.collect()).await;
        assert!(reports.iter().all(Result::is_ok));
        for delivery in pulled {
            *came.entry(delivery.tenant).or_default() += 1;
        }
        assert_eq!(store.renew(vec![token]).await.unwrap().stale, [0; 0]);
    }
    for (tenant, share) in [("a", 200), ("b", 200), ("c", 600)] {
        assert!(came[tenant].abs_diff(share) <= share / 20, "{came:?}");
    }
}

#[tokio::test]
async fn a_low_priority_is_put_off_but_not_for_ever() {
    let (_server, store) = start().await;
    let low = new("", "low@x.test", -9);
    enqueue(&store, vec![low.clone()]).await;
    let token = store.lease(worker("w", 1), 1).await.unwrap()[0].token;
    let mut before = 0;
    // There is always something of a higher priority, from ever new senders.
    loop {
        let others = (0..4).map(|n| new("", &format!("s{before}-{n}@x.test"), 0));
        enqueue(&store, others.collect()).await;
        let pulled = store.pull(token, 4).await.unwrap().unwrap();
        let done = pulled.iter().map(|delivery| {
            let done = vec![outcome("a@x.test", OutcomeKind::Delivered)];
            completion(delivery.delivery_id.parse().unwrap(), token, 1, done)
        });
        store.complete(done.collect()).await;
        assert_eq!(store.renew(vec![token]).await.unwrap().stale, [0; 0]);
        if pulled
            .iter()
            .any(|delivery| delivery.queue_id == low.queue_id)
        {
            break;
        }
        before += pulled.len();
        assert!(before < 4_000, "it starves");
    }
    assert!(before > 4, "it was not put off");
}

#[tokio::test]
async fn what_is_suspended_is_passed_by_and_comes_back() {
    let (_server, store) = start().await;
    let flood = (0..DEEP).map(|_| new("", "flood@x.test", 0));
    enqueue(&store, flood.collect()).await;
    let other = new("", "other@x.test", 0);
    enqueue(&store, vec![other.clone()]).await;
    let suspension = Suspension {
        id: "s".to_owned(),
        sender: "@x.test".to_owned(),
        ..Suspension::default()
    };
    let flood_only = Suspension {
        sender: "flood@X.test".to_owned(),
        ..suspension.clone()
    };
    store.suspend(suspension).await.unwrap();
    assert!(store.lease(worker("w", 1), 1).await.unwrap().len() <= 1);
    store.suspend(flood_only).await.unwrap();

    // Each call passes a bounded number by.
    let mut came = HashSet::new();
    let mut token = None;
    for _ in 0..2 * DEEP / 100 {
        store.expire().await.unwrap();
        let grants = store.lease(worker("w", 1), 1).await.unwrap();
        token = grants.first().map(|grant| grant.token).or(token);
        let Some(token) = token else { continue };
        for delivery in store.pull(token, 100).await.unwrap().unwrap() {
            came.insert(delivery.queue_id);
        }
    }
    assert_eq!(came, HashSet::from([other.queue_id]));

    assert!(store.resume("s").await.unwrap());
    while store.expire().await.unwrap() == Some(std::time::Duration::ZERO) {}
    let mut back = 0;
    loop {
        let grants = store.lease(worker("w", 1), 1).await.unwrap();
        token = grants.first().map(|grant| grant.token).or(token);
        let pulled = store.pull(token.unwrap(), 500).await.unwrap().unwrap();
        if pulled.is_empty() {
            break;
        }
        back += pulled.len();
    }
    assert_eq!(back, DEEP);
}
