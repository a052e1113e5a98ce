//! Mail that runs in a circle between two servers, and the bounce that does the same.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use postrider_tests::http;
use postrider_tests::server::{Server, Settings};

use crate::world::{BOB, World, run, settings, text};

/// Servers that a message may pass.
const HOPS: usize = 12;

/// An address that is known before the server behind it is.
struct Door {
    address: SocketAddr,
    behind: Arc<OnceLock<SocketAddr>>,
}

impl Door {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behind = Arc::new(OnceLock::new());
        let to = behind.clone();
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                let Some(to) = to.get().and_then(|to| TcpStream::connect(to).ok()) else {
                    continue;
                };
                for (mut from, mut to) in [
                    (from.try_clone().unwrap(), to.try_clone().unwrap()),
                    (to, from),
                ] {
                    std::thread::spawn(move || {
                        std::io::copy(&mut from, &mut to).ok();
                        to.shutdown(std::net::Shutdown::Both).ok();
                    });
                }
            }
        });
        Self { address, behind }
    }
}

/// Two servers, each of which believes that the other is the way to `circle.test`. What is for
/// `here.test` ends at the first.
fn circle() -> (World, Server, tempfile::TempDir) {
    let hops = ("POSTRIDER__EDGE__LIMITS__HOPS", HOPS.to_string());
    let door = Door::new();
    let first = World::start_with(&Settings {
        routes: vec![("circle.test".to_owned(), door.address)],
        trust_loopback: true,
        environment: vec![hops.clone()],
        ..settings()
    })
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let second = Server::start(
        &dir.path().join("server"),
        &Settings {
            hostname: "mail.there.test".to_owned(),
            domains: vec!["there.test".to_owned()],
            relay_to: Some(([127, 0, 0, 1], first.server.ports.mx).into()),
            environment: vec![hops],
            ..Settings::default()
        },
    )
    .unwrap();
    let mx = ([127, 0, 0, 1], second.ports.mx).into();
    door.behind.set(mx).unwrap();
    (first, second, dir)
}

fn send(world: &World, from: &str, to: &str) {
    let message = format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: round\r\n\r\nand round\r\n");
    let file = world.file("message", message.as_bytes()).unwrap();
    let url = format!("smtp://localhost:{}", world.server.ports.mx);
    run(std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--url", &url])
        .args(["--mail-from", from, "--mail-rcpt", to])
        .args(["--upload-file", &text(&file)]))
    .unwrap();
}

/// A counter of a server's metrics, all labels together.
fn counter(server: &Server, name: &str) -> f64 {
    let (_, metrics) = http::get(server.ports.telemetry[0], "/metrics").unwrap();
    metrics
        .lines()
        .filter(|line| line.starts_with(name) && !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

fn both(first: &World, second: &Server, name: &str) -> f64 {
    counter(&first.server, name) + counter(second, name)
}

#[test]
fn a_circle_ends_with_one_bounce_and_a_bounce_in_it_with_none() {
    let (first, second, _dir) = circle();

    // The sender hears of it, once.
    send(&first, BOB, "somebody@circle.test");
    let bounce = first.fetch(BOB, 1).unwrap().remove(0);
    let bounce = String::from_utf8(bounce).unwrap();
    for words in [
        "Action: failed",
        "Status: 5.4.6",
        "554 5.4.6 Too many Received lines",
        "Final-Recipient: rfc822; somebody@circle.test",
    ] {
        assert!(bounce.contains(words), "{words} in {bounce}");
    }
    let returned = bounce.rsplit_once("text/rfc822-headers").unwrap().1;
    assert_eq!(returned.matches("Received: from").count(), HOPS + 1);
    assert_eq!(both(&first, &second, "postrider_delivery_dsns_total"), 1.0);

    // Here the sender is in the circle too: its bounce runs round, is stopped, and nobody answers.
    send(&first, "other@circle.test", "somebody@circle.test");
    let end = Instant::now() + Duration::from_secs(30);
    let loops = || {
        both(
            &first,
            &second,
            "postrider_smtp_server_refusals_total{stage=\"loops\"",
        )
    };
    while loops() < 3.0 {
        assert!(Instant::now() < end, "{}", first.server.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    // Time for an answer that must not come.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(loops(), 3.0, "the two messages and the bounce");
    assert_eq!(both(&first, &second, "postrider_delivery_dsns_total"), 2.0);
    assert_eq!(first.fetch(BOB, 1).unwrap().len(), 1);
    for server in [&first.server, &second] {
        let waiting = server.cli(&["queue", "list", "--json"]).unwrap();
        assert!(!waiting.contains("queue_id"), "{waiting}");
    }
}
