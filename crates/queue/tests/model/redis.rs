//! The Redis store as subject: a real server, whose scripts take the time from a key.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postrider_config::values::Period;
use postrider_queue::store::redis::{RedisStore, TimeSource};
use postrider_queue::store::{Store, StoreSettings};

use crate::history::{Plan, Stage, play_all};
use crate::model::micros;
use crate::subject::{BEGIN_US, Crash, Subject, settings};
use crate::support::redis_server::RedisServer;

const CLOCK: &str = "test-clock";

#[test]
fn redis_does_what_the_model_does() {
    let plan = Plan {
        histories: 200,
        steps: 60,
        crashes: 10,
        server_crashes: 4,
        faults: 3,
    };
    play_all(plan, || RedisStage {
        server: Arc::new(Mutex::new(RedisServer::start())),
    });
}

type Shared = Arc<Mutex<RedisServer>>;

struct RedisStage {
    server: Shared,
}

impl Stage for RedisStage {
    type Subject = RedisSubject;

    async fn fresh(&mut self) -> RedisSubject {
        self.server.lock().unwrap().command(&["FLUSHALL"]).unwrap();
        let mut subject = RedisSubject {
            server: self.server.clone(),
            store: None,
            now_us: BEGIN_US,
        };
        subject.set_clock();
        subject.open().await;
        subject
    }
}

struct RedisSubject {
    server: Shared,
    store: Option<Arc<RedisStore>>,
    now_us: u64,
}

impl RedisSubject {
    fn set_clock(&self) {
        let now = self.now_us.to_string();
        self.server
            .lock()
            .unwrap()
            .command(&["SET", CLOCK, &now])
            .unwrap();
    }

    /// Starts the server again. The store finds its way back by itself, in its own time.
    async fn restart(&self) {
        self.server.lock().unwrap().run();
        for _ in 0..100 {
            if self.store().stats().await.is_ok() {
                return;
            }
        }
        panic!("the store does not find its way back");
    }

    async fn open(&mut self) {
        let mut config = self.server.lock().unwrap().config();
        config.connect_timeout = Period(Duration::from_millis(500));
        let time = TimeSource::key(CLOCK);
        let store = RedisStore::open_at(&config, self.settings(), &time).await;
        self.store = Some(store.unwrap());
    }
}

#[async_trait]
impl Subject for RedisSubject {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().unwrap()
    }

    async fn advance(&mut self, by: Duration) {
        self.now_us += micros(by);
        self.set_clock();
    }

    async fn crash(&mut self, how: Crash) {
        match how {
            Crash::Process => {
                self.store = None;
                self.open().await;
            }
            Crash::Server => {
                self.server.lock().unwrap().kill();
                self.restart().await;
            }
        }
    }

    async fn break_down(&mut self, _writes: u64) {
        self.server.lock().unwrap().kill();
    }

    async fn mend(&mut self) {
        self.restart().await;
    }

    fn leases_survive(&self) -> bool {
        true
    }

    /// Redis forgets by its own clock, which the test cannot set.
    fn forgets(&self) -> bool {
        false
    }

    fn settings(&self) -> StoreSettings {
        StoreSettings {
            journey_retention: Duration::from_secs(10 * 24 * 3600),
            ..settings()
        }
    }
}
