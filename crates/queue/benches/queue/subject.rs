//! The store under test.

use std::sync::Arc;
use std::time::Duration;

use postrider_queue::store::embedded::{EmbeddedSettings, EmbeddedStore};
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Store, StoreSettings};

use crate::meter;
use crate::redis_server::RedisServer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Redis,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        }
    }
}

pub(crate) struct Subject {
    store: Option<Arc<dyn Store>>,
    dir: tempfile::TempDir,
    redis: Option<RedisServer>,
}

impl Subject {
    /// A new, empty store: in `$POSTRIDER_BENCH_DIR` or the temporary folder.
    pub(crate) async fn open(kind: Kind) -> Self {
        let dir = match std::env::var_os("POSTRIDER_BENCH_DIR") {
            Some(parent) => tempfile::tempdir_in(parent).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        let mut subject = Self {
            store: None,
            dir,
            redis: (kind == Kind::Redis).then(RedisServer::start),
        };
        subject.start().await;
        subject
    }

    async fn start(&mut self) {
        let settings = StoreSettings {
            lease: Duration::from_secs(60),
            slots_per_destination: 1_000,
            policies: Arc::default(),
            journey_retention: Duration::from_secs(86_400),
            instance: "queue@bench".to_owned(),
        };
        let store: Arc<dyn Store> = match &self.redis {
            Some(redis) => RedisStore::open(&redis.config(), settings).await.unwrap(),
            None => {
                let mut embedded = EmbeddedSettings::in_dir(self.dir.path());
                embedded.reserve = 0;
                Arc::new(EmbeddedStore::open(embedded, settings).await.unwrap())
            }
        };
        self.store = Some(store);
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.store.clone().unwrap()
    }

    /// Closes the store and opens it again. Returns how many messages are there.
    pub(crate) async fn reopen(&mut self) -> u64 {
        let store = self.store.take().unwrap();
        store.close().await.unwrap();
        drop(store);
        self.start().await;
        self.store().stats().await.unwrap().messages
    }

    /// The process beside this one whose time counts as well.
    pub(crate) fn server(&self) -> Option<u32> {
        self.redis.as_ref().map(RedisServer::pid)
    }

    /// Bytes of memory that hold the queue.
    pub(crate) fn memory(&self) -> u64 {
        let Some(redis) = &self.redis else {
            return meter::resident();
        };
        let info = redis.command(&["INFO", "memory"]).unwrap();
        let info: String = redis::from_redis_value(info).unwrap();
        info.lines()
            .find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok())
            .unwrap()
    }
}
