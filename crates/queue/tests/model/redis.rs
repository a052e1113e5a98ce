//! The Redis store as subject: a real server, whose scripts take the time from a key.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use postrider_config::values::Period;
use postrider_queue::store::clock::micros;
use postrider_queue::store::redis::{RedisStore, TimeSource};
use postrider_queue::store::{Store, StoreSettings};

use crate::history::{Plan, Stage, play_all};
use crate::kind::{PARTITIONS, REDIS};
use crate::subject::{BEGIN_US, Crash, Subject, settings};
use crate::support::redis_server::RedisServer;

const CLOCK: &str = "test-clock";

/// So many histories are played on one server. It reads all of them again whenever it is started again.
const HISTORIES_OF_A_SERVER: u32 = 20;

#[test]
fn redis_does_what_the_model_does() {
    let plan = Plan {
        histories: 200,
        steps: 60,
        crashes: 10,
        server_crashes: 4,
        faults: 3,
        abandons: 10,
        kind: REDIS,
    };
    play_all(plan, || RedisStage::new(1));
}

/// The same with the queue divided, as in a cluster; a server of its own knows no slots, which the
/// partitions do not need.
#[test]
fn redis_in_partitions_does_what_the_model_does() {
    let plan = Plan {
        histories: 60,
        steps: 60,
        crashes: 10,
        server_crashes: 4,
        faults: 3,
        abandons: 25,
        kind: PARTITIONS,
    };
    play_all(plan, || RedisStage::new(3));
}

/// A server, and a connection to it that is kept.
struct Server {
    redis: RedisServer,
    connection: Option<redis::Connection>,
}

impl Server {
    fn start() -> Self {
        Self {
            redis: RedisServer::start(),
            connection: None,
        }
    }

    fn command(&mut self, words: &[&str]) {
        let connection = self.connection.get_or_insert_with(|| {
            let client = redis::Client::open(self.redis.url()).unwrap();
            client.get_connection().unwrap()
        });
        let mut command = redis::cmd(words[0]);
        let done = command.arg(&words[1..]).query::<redis::Value>(connection);
        done.unwrap();
    }

    fn kill(&mut self) {
        self.connection = None;
        self.redis.kill();
    }

    fn restart(&mut self) {
        self.kill();
        self.redis.run();
    }
}

type Shared = Arc<Mutex<Server>>;

struct RedisStage {
    server: Shared,
    partitions: u16,
    histories: u32,
}

impl RedisStage {
    fn new(partitions: u16) -> Self {
        Self {
            server: Arc::new(Mutex::new(Server::start())),
            partitions,
            histories: 0,
        }
    }
}

impl Stage for RedisStage {
    type Subject = RedisSubject;

    async fn fresh(&mut self) -> RedisSubject {
        self.histories += 1;
        if self.histories.is_multiple_of(HISTORIES_OF_A_SERVER) {
            *self.server.lock().unwrap() = Server::start();
        } else {
            self.server.lock().unwrap().command(&["FLUSHALL"]);
        }
        let mut subject = RedisSubject {
            server: self.server.clone(),
            partitions: self.partitions,
            store: None,
            now_us: BEGIN_US,
            down: None,
        };
        subject.set_clock();
        subject.open().await;
        subject
    }
}

struct RedisSubject {
    server: Shared,
    partitions: u16,
    store: Option<Arc<RedisStore>>,
    now_us: u64,
    /// The server is on its way down, and up again.
    down: Option<JoinHandle<()>>,
}

impl RedisSubject {
    fn set_clock(&self) {
        let now = self.now_us.to_string();
        self.server.lock().unwrap().command(&["SET", CLOCK, &now]);
    }

    /// The store finds its way back to the server by itself, in its own time.
    async fn find_back(&self) {
        for _ in 0..100 {
            if self.store().stats().await.is_ok() {
                return;
            }
        }
        panic!("the store does not find its way back");
    }

    async fn open(&mut self) {
        let mut config = self.server.lock().unwrap().redis.config();
        config.partitions = self.partitions;
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
                // What it has sent and Redis has not yet read dies with it.
                let kill = ["CLIENT", "KILL", "TYPE", "normal"];
                self.server.lock().unwrap().command(&kill);
                self.open().await;
            }
            Crash::Server => {
                self.server.lock().unwrap().restart();
                self.find_back().await;
            }
        }
    }

    /// The server is away for all of the next call; or it goes down somewhere in the middle of it, so that
    /// an answer is lost, and is soon back.
    async fn break_down(&mut self, writes: u64) {
        let server = self.server.clone();
        if writes == 0 {
            server.lock().unwrap().kill();
            return;
        }
        let at = Duration::from_micros(rand::random_range(0..1500));
        self.down = Some(thread::spawn(move || {
            thread::sleep(at);
            server.lock().unwrap().restart();
        }));
    }

    async fn mend(&mut self) {
        match self.down.take() {
            Some(down) => down.join().unwrap(),
            None => self.server.lock().unwrap().redis.run(),
        }
        self.find_back().await;
    }

    async fn replace(&mut self) {
        self.store = None;
        self.server.lock().unwrap().command(&["FLUSHALL"]);
        self.set_clock();
        self.open().await;
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
