//! Calls that Redis does not answer, answers by half, or puts off since it is busy: each is done or not,
//! never twice, and says that it may be asked for again.

use std::time::Duration;

use postrider_config::values::Period;
use postrider_protocol::queue_v1::OutcomeKind;
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::redis::{RedisConfig, RedisStore, TimeSource};
use postrider_queue::store::{Completed, Enqueued, Store as _};

use crate::moves::{CLOCK, clear, keys, start};
use crate::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::{completion, message, outcome, settings, worker};

/// What is asked for while something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Enqueue,
    Lease,
    Pull,
    Complete,
}

const CALLS: [Call; 4] = [Call::Enqueue, Call::Lease, Call::Pull, Call::Complete];

async fn open(url: String, wait_ms: u64) -> std::sync::Arc<RedisStore> {
    let config = RedisConfig {
        url,
        connect_timeout: Period(Duration::from_millis(wait_ms)),
        ..RedisConfig::default()
    };
    let store = RedisStore::open_at(&config, settings(), &TimeSource::key(CLOCK)).await;
    store.unwrap()
}

/// The way of a message through the queue.
struct Way {
    id: QueueId,
    token: u64,
    pulled: Vec<DeliveryId>,
}

impl Way {
    /// Takes one step. `false` if it has to be asked for again.
    async fn step(&mut self, store: &RedisStore, call: Call) -> bool {
        let answer = match call {
            Call::Enqueue => {
                let new = message(self.id, 300, &[("a@x.test", "smtp:x.test")]);
                store.enqueue(vec![new]).await.remove(0).map(|_| true)
            }
            Call::Lease => store.lease(worker("w", 1), 1).await.map(|grants| {
                assert!(grants.len() <= 1);
                self.token = grants.first().map_or(0, |grant| grant.token);
                self.token > 0
            }),
            Call::Pull => store.pull(self.token, 10).await.map(|pulled| {
                let pulled = pulled.unwrap();
                self.pulled = pulled
                    .iter()
                    .map(|delivery| delivery.delivery_id.parse().unwrap())
                    .collect();
                self.pulled.len() == 1
            }),
            Call::Complete => {
                let done = vec![outcome("a@x.test", OutcomeKind::Delivered)];
                let report = completion(self.pulled[0], self.token, 1, done);
                let mut results = store.complete(vec![report]).await;
                results.remove(0).map(|result| {
                    assert!(matches!(result, Completed::Done), "{result:?}");
                    true
                })
            }
        };
        match answer {
            Ok(done) => done,
            Err(error) if error.is_passing() => false,
            Err(error) => panic!("{call:?}: {error}"),
        }
    }
}

/// Takes a message through the queue, with one of the calls made by `troubled`, which then comes to rest.
/// Returns whether that call was answered.
async fn go(
    server: &RedisServer,
    troubled: &RedisStore,
    call: Call,
    begins: impl AsyncFn(),
    ends: impl AsyncFn(),
) -> bool {
    clear(server);
    let store = open(server.url(), 5000).await;
    let mut way = Way {
        id: QueueId::new(),
        token: 0,
        pulled: Vec::new(),
    };
    let mut answered = false;
    for step in CALLS {
        if step != call {
            assert!(way.step(&store, step).await, "{step:?} after {call:?}");
            continue;
        }
        begins().await;
        answered = way.step(troubled, step).await;
        ends().await;
        if answered {
            continue;
        }
        // The same process asks again, whose connection may be away for a moment.
        let mut again = false;
        for _ in 0..50 {
            again = way.step(troubled, step).await;
            if again {
                break;
            }
        }
        assert!(again, "{call:?} was not answered twice");
    }
    // It came, went once, and nothing of it is left.
    let again = message(way.id, 300, &[("a@x.test", "smtp:x.test")]);
    let again = store.enqueue(vec![again]).await.remove(0);
    assert!(matches!(again, Ok(Enqueued::AlreadyAccepted)), "{again:?}");
    let stats = store.stats().await.unwrap();
    let counts = (stats.accepted, stats.delivered, stats.open, stats.messages);
    assert_eq!(counts, (1, 1, 0, 0), "{call:?}");
    assert_eq!(stats.stale_completions, 0);
    for rest in [
        "m:*", "b:*", "index", "load", "ready:*", "later:*", "leased",
    ] {
        assert_eq!(keys(server, rest), [""; 0], "{call:?}");
    }
    assert!(store.journey(way.id).await.unwrap().unwrap().ended);
    answered
}

/// The answer breaks off after each number of bytes, for good and with a way that is whole again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_loses_nothing_and_doubles_nothing() {
    let server = start();
    for call in CALLS {
        for heals in [false, true] {
            let (mut bytes, mut lost) = (0, 0);
            loop {
                let proxy = Proxy::to(server.port()).await;
                clear(&server);
                let troubled = open(proxy.url(), if heals { 5000 } else { 100 }).await;
                let begins = async || match heals {
                    true => proxy.break_once_after(bytes),
                    false => proxy.break_after(bytes),
                };
                let cut = std::cell::Cell::new(false);
                let ends = async || {
                    cut.set(proxy.is_cut());
                    proxy.heals();
                };
                let answered = go(&server, &troubled, call, begins, ends).await;
                lost += usize::from(!answered);
                if !cut.get() {
                    assert!(answered);
                    break;
                }
                // It is asked for again without the caller hearing of it; a pull once only, and leases
                // when the worker asks again.
                let repeats = matches!(call, Call::Enqueue | Call::Complete);
                assert!(answered || !heals || !repeats, "{call:?}");
                // Short answers in small steps, long ones in longer.
                bytes += 7 + bytes / 8;
            }
            assert!(lost > 0 || heals, "{call:?} was never cut");
        }
    }
}

/// The worker believes that it has just got it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_told_again_lasts_as_long_as_a_new_one() {
    let server = start();
    let proxy = Proxy::to(server.port()).await;
    let troubled = open(proxy.url(), 200).await;
    // With this Redis knows the script.
    assert!(troubled.lease(worker("w", 1), 1).await.unwrap().is_empty());
    let new = message(QueueId::new(), 300, &[("a@x.test", "smtp:x.test")]);
    assert!(troubled.enqueue(vec![new]).await[0].is_ok());
    proxy.break_after(1);
    assert!(troubled.lease(worker("w", 1), 1).await.is_err());
    proxy.heals();
    assert_eq!(keys(&server, "l:*").len(), 1, "it was not granted");

    server.command(&["INCRBY", CLOCK, "9000000"]).unwrap();
    let mut again = troubled.lease(worker("w", 1), 1).await;
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        again = troubled.lease(worker("w", 1), 1).await;
    }
    let again = again.unwrap();
    assert_eq!((again.len(), again[0].slots), (1, 1));
    // It is told once.
    let more = troubled.lease(worker("w", 1), 1).await.unwrap();
    assert!(more.is_empty(), "{more:?}");
    server.command(&["INCRBY", CLOCK, "9000000"]).unwrap();
    let pulled = troubled.pull(again[0].token, 1).await.unwrap();
    assert_eq!(pulled.map(|pulled| pulled.len()), Some(1));
}

/// Another script runs for so long that Redis answers `BUSY`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_unavailable_and_nothing_is_half_done() {
    let server = start();
    for name in ["busy-reply-threshold", "lua-time-limit"] {
        server.command(&["CONFIG", "SET", name, "10"]).ok();
    }
    let busy = || {
        let url = server.url();
        std::thread::spawn(move || {
            let client = redis::Client::open(url).unwrap();
            let mut connection = client.get_connection().unwrap();
            let mut script = redis::cmd("EVAL");
            let answer: redis::RedisResult<()> = script
                .arg("while true do end")
                .arg(0)
                .query(&mut connection);
            let error = answer.unwrap_err().to_string();
            assert!(error.contains("killed"), "{error}");
        });
        while !is_busy(&server) {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let begins = async || tokio::task::block_in_place(busy);
    for call in CALLS {
        // For longer than it is waited for.
        let troubled = open(server.url(), 100).await;
        let ends = async || {
            server.command(&["SCRIPT", "KILL"]).unwrap();
            tokio::task::block_in_place(|| {
                while is_busy(&server) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        };
        assert!(
            !go(&server, &troubled, call, begins, ends).await,
            "{call:?}"
        );
    }
    // For less: the call is made again until it is carried out.
    for call in [Call::Enqueue, Call::Complete] {
        let troubled = open(server.url(), 10_000).await;
        let begins = async || {
            tokio::task::block_in_place(busy);
            let url = server.url();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                let client = redis::Client::open(url).unwrap();
                let mut connection = client.get_connection().unwrap();
                let kill: redis::RedisResult<()> =
                    redis::cmd("SCRIPT").arg("KILL").query(&mut connection);
                kill.unwrap();
            });
        };
        assert!(
            go(&server, &troubled, call, begins, async || {}).await,
            "{call:?}"
        );
    }
}

fn is_busy(server: &RedisServer) -> bool {
    let answer = server.command(&["GET", "x"]);
    answer.is_err_and(|error| error.code() == Some("BUSY"))
}
