//! What a hostile client can do to the queue's gRPC port: it harms only itself. The queue stays within
//! bounds, and serves others meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use postrider_protocol::QueueId;
use postrider_protocol::api::{Queue as _, QueueAdmin as _};
use postrider_protocol::grpc::{self, QueueClient, ServicesConfig};
use postrider_protocol::queue_v1::enqueue_result::Status;
use postrider_protocol::queue_v1::{Body, Envelope, NewMessage, Recipient, body};
use postrider_tests::cpu;
use postrider_tests::server::{Mode, Server, Settings};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Memory that an attack may cost while it lasts, a debug build's waste included.
const GROWTH: u64 = 256 << 20;
/// For a message to be accepted beside it.
const ANSWER: Duration = Duration::from_secs(5);
/// For an operator's question beside it, which may wait for its turn behind thousands of others.
const TURN: Duration = Duration::from_secs(30);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals (RFC 7541 section 6.2.3).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn call(stream: u32, path: &str, kind: &str) -> Vec<u8> {
    let fields = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", kind),
        ("te", "trailers"),
    ]);
    frame(HEADERS, END_HEADERS, stream, &fields)
}

const WORK: &str = "/postrider.queue.v1.Queue/Work";
const PUT: &str = "/postrider.queue.v1.Queue/PutBody";
const ENQUEUE: &str = "/postrider.queue.v1.Queue/Enqueue";
const LIST: &str = "/postrider.queue.v1.QueueAdmin/List";
const GRPC: &str = "application/grpc";

/// A connection that says these bytes, as far as the other side takes them, and reads nothing.
fn say(port: u16, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    // It may be closed, or not be read, in the middle of this: that is what is wanted.
    stream.write_all(bytes).ok();
    stream
}

fn greeted(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    frames.into_iter().for_each(|frame| bytes.extend(frame));
    bytes
}

/// Client streams are odd.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

/// A gRPC message that claims to be so long, and goes on with little.
fn claims(length: u32, octets: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(length.to_be_bytes());
    message.extend(vec![0x0a; octets]);
    message
}

struct Attack {
    name: &'static str,
    connections: usize,
    bytes: Vec<u8>,
}

fn attacks() -> Vec<Attack> {
    let attack = |name, connections, bytes| Attack {
        name,
        connections,
        bytes,
    };
    let noise: Vec<u8> = (0..200_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 5) as u8)
        .collect();
    let huge = [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &noise].concat();
    let endless = streams(1)
        .map(|stream| frame(HEADERS, 0, stream, &block(&[("a", "b")])))
        .chain((0..20_000).map(|_| frame(CONTINUATION, 0, 1, &block(&[("c", "d")]))));
    let reset = streams(20_000).flat_map(|stream| {
        [
            call(stream, WORK, GRPC),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ]
    });
    let claim = streams(200).flat_map(|stream| {
        [
            call(stream, ENQUEUE, GRPC),
            frame(DATA, 0, stream, &claims(u32::MAX, 100)),
        ]
    });
    let body = streams(100).flat_map(|stream| {
        [
            call(stream, PUT, GRPC),
            frame(DATA, 0, stream, &claims(60 << 20, 16_000)),
        ]
    });
    let unread = streams(2_000).flat_map(|stream| {
        [
            call(stream, LIST, GRPC),
            frame(DATA, 1, stream, &[0, 0, 0, 0, 0]),
        ]
    });
    vec![
        attack("no protocol at all", 20, noise.clone()),
        attack(
            "HTTP/1.1",
            20,
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000),
        ),
        attack("a preface and noise", 20, greeted([noise])),
        attack("a frame beyond the limit", 20, greeted([huge])),
        attack("headers without end", 5, greeted(endless)),
        attack(
            "pings",
            5,
            greeted((0..100_000).map(|n: u64| frame(PING, 0, 0, &n.to_be_bytes()))),
        ),
        attack(
            "settings",
            5,
            greeted((0..50_000).map(|_| frame(SETTINGS, 0, 0, &[]))),
        ),
        attack(
            "streams that say nothing",
            3,
            greeted(streams(10_000).map(|one| call(one, WORK, GRPC))),
        ),
        attack("streams that are reset at once", 3, greeted(reset)),
        attack(
            "another content type",
            3,
            greeted(streams(2_000).map(|one| call(one, WORK, "text/html"))),
        ),
        attack(
            "a method that is not there",
            3,
            greeted(streams(2_000).map(|one| call(one, "/x/Y", GRPC))),
        ),
        attack("messages of four gigabytes", 3, greeted(claim)),
        attack("bodies that never come", 3, greeted(body)),
        attack("answers that nobody reads", 3, greeted(unread)),
        attack("silence", 500, Vec::new()),
        attack("silence after the preface", 500, greeted([])),
    ]
}

fn message() -> NewMessage {
    NewMessage {
        queue_id: QueueId::new().to_string(),
        envelope: Some(Envelope {
            reverse_path: "a@b.test".to_owned(),
            recipients: vec![Recipient {
                address: "c@d.test".to_owned(),
                destination: "smtp:d.test".to_owned(),
                ..Recipient::default()
            }],
            ..Envelope::default()
        }),
        body: Some(Body {
            size: 3,
            content: Some(body::Content::Inline("x\r\n".into())),
        }),
        ..NewMessage::default()
    }
}

/// Somebody else, meanwhile: is accepted, and finds the message.
async fn honest_calls(client: &QueueClient, beside: &str) {
    let begun = Instant::now();
    let message = message();
    let id: QueueId = message.queue_id.parse().unwrap();
    let accepted = tokio::time::timeout(ANSWER, client.enqueue(vec![message])).await;
    let results = accepted.unwrap_or_else(|_| panic!("not accepted beside: {beside}"));
    assert_eq!(results.unwrap()[0].status(), Status::Accepted);
    let accepted = begun.elapsed();
    let journey = loop {
        match client.journey(id.to_string()).await {
            Ok(journey) => break journey,
            Err(error) => assert!(
                begun.elapsed() < TURN,
                "no journey beside: {beside}: {error}"
            ),
        }
    };
    assert_eq!(journey.journeys.len(), 1);
    println!(
        "{beside}: accepted after {accepted:?}, told of after {:?}",
        begun.elapsed()
    );
}

async fn attacked(dir: &Path) {
    let settings = Settings {
        mode: Mode::Split,
        ..Settings::default()
    };
    let mut server = Server::start(dir, &settings).unwrap();
    server.kill("postrider-delivery");
    let pid = server.processes()[0];
    let port = server.ports.queue;
    let client = grpc::queue(&ServicesConfig {
        queue: format!("http://127.0.0.1:{port}"),
        ..ServicesConfig::default()
    })
    .unwrap();
    for _ in 0..100 {
        honest_calls(&client, "nothing").await;
    }
    let before = cpu::resident(pid);
    for attack in attacks() {
        let open: Vec<TcpStream> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..attack.connections)
                .map(|_| scope.spawn(|| say(port, &attack.bytes)))
                .collect();
            tasks.into_iter().map(|task| task.join().unwrap()).collect()
        });
        honest_calls(&client, attack.name).await;
        let grown = cpu::resident(pid).saturating_sub(before);
        println!("{}: {} MiB more", attack.name, grown >> 20);
        assert!(grown < GROWTH, "{}: {} MiB more", attack.name, grown >> 20);
        drop(open);
    }
    // What a client does that dribbles a proper call is not refused.
    let mut slow = say(port, PREFACE);
    for byte in greeted([call(1, LIST, GRPC), frame(DATA, 1, 1, &[0, 0, 0, 0, 0])])
        .iter()
        .skip(PREFACE.len())
    {
        slow.write_all(&[*byte]).unwrap();
    }
    slow.set_read_timeout(Some(ANSWER)).unwrap();
    let mut answer = vec![0; 9];
    slow.read_exact(&mut answer).unwrap();
    let stats = client.stats().await.unwrap();
    assert_eq!(
        stats.accepted,
        stats.open + stats.delivered + stats.failed + stats.removed
    );
    server
        .stop("postrider-queue", Duration::from_secs(40))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_hostile_client_harms_only_itself() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(attacked(dir.path()));
}
