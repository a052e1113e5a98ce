//! What the edge itself costs: CPU time a message, and memory an idle connection, with a queue
//! that accepts everything at once and keeps nothing.
//!
//! ```text
//! cargo run --release -p postrider-edge --example receive
//! cargo run --release -p postrider-edge --example receive -- 200000 20 4096
//! ```
//! The arguments are messages, connections, and octets a message. Clients run on threads of
//! their own, whose time does not count.

// A program for measuring may stop where it stands.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use postrider_config::ServerConfig;
use postrider_edge::config::ListenerConfig;
use postrider_edge::{Edge, EdgeConfig, Role};
use postrider_protocol::Status;
use postrider_protocol::api::{BodyStream, Directory, Queue, Result};
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, AuthenticateResponse, lookup_response::Verdict,
};
use postrider_protocol::queue_v1::{
    EnqueueResult, NewMessage, PutBodyResponse, QueueFrame, WorkerFrame, enqueue_result,
};
use postrider_tls::{ServerCertificate, TlsConfig};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name of the edge's threads, whose time counts.
const THREADS: &str = "edge";
const IDLE: usize = 2_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(default, |a| a.parse().unwrap());
    let (messages, connections, size) = (number(100_000), number(20), number(4_096));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(THREADS)
        .enable_all()
        .build()
        .unwrap();
    let (address, shutdown) = runtime.block_on(serve());
    idle(address);
    for pipelined in [false, true] {
        load(address, messages, connections, size, pipelined);
    }
    shutdown.cancel();
}

async fn serve() -> (SocketAddr, CancellationToken) {
    let data = std::env::temp_dir().join(format!("postrider-receive-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let server = ServerConfig {
        hostname: "mx.here.test".to_owned(),
        domains: vec!["here.test".to_owned()],
        ..ServerConfig::default()
    };
    let certificate = ServerCertificate::load(&TlsConfig::default(), "mx.here.test", &data);
    std::fs::remove_dir_all(&data).unwrap();
    let config = EdgeConfig {
        listeners: vec![ListenerConfig {
            address: "127.0.0.1:0".parse().unwrap(),
            role: Role::Mx,
        }],
        trusted_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..EdgeConfig::default()
    };
    let nothing = Arc::new(Nothing);
    let edge = Edge::bind(
        &server,
        config,
        certificate.unwrap(),
        nothing.clone(),
        nothing,
    )
    .unwrap();
    let address = edge.local_addrs()[0].1;
    let shutdown = CancellationToken::new();
    tokio::spawn(edge.serve(shutdown.clone()));
    (address, shutdown)
}

/// Opens connections that say EHLO, send one message, and wait.
fn idle(address: SocketAddr) {
    let open = || {
        let mut client = Client::connect(address);
        client.message("Subject: x\r\n\r\n", false);
        client
    };
    let mut clients = (0..100).map(|_| open()).collect::<Vec<_>>();
    std::thread::sleep(Duration::from_millis(200));
    let before = resident();
    clients.extend((0..IDLE).map(|_| open()));
    std::thread::sleep(Duration::from_millis(200));
    let each = resident().saturating_sub(before) / IDLE;
    println!("{IDLE} idle plain connections: {each} octets each");
}

fn load(address: SocketAddr, messages: usize, connections: usize, size: usize, pipelined: bool) {
    let line = "A line of text, as long as most are in mail that people write.\r\n";
    let content = format!("Subject: load\r\n\r\n{}", line.repeat(size / line.len()));
    let (began, cpu) = (Instant::now(), cpu_time());
    std::thread::scope(|scope| {
        for _ in 0..connections {
            let content = &content;
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..messages / connections {
                    client.message(content, pipelined);
                }
            });
        }
    });
    let (took, cpu) = (began.elapsed(), cpu_time() - cpu);
    let count = (messages / connections * connections) as f64;
    println!(
        "{}: {:.0} messages/s, {:.1} µs CPU a message",
        if pipelined { "pipelined" } else { "in turn" },
        count / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count
    );
}

struct Client {
    stream: TcpStream,
    out: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self {
            stream,
            out: Vec::new(),
        };
        client.replies(1);
        client.say(&["EHLO client.example\r\n"], 1);
        client
    }

    fn message(&mut self, content: &str, pipelined: bool) {
        let commands = [
            "MAIL FROM:<sender@elsewhere.example>\r\n",
            "RCPT TO:<recipient@example.org>\r\n",
            "DATA\r\n",
        ];
        if pipelined {
            self.say(&commands, 3);
        } else {
            for command in commands {
                self.say(&[command], 1);
            }
        }
        self.say(&[content, ".\r\n"], 1);
    }

    fn say(&mut self, parts: &[&str], replies: usize) {
        self.out.clear();
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.stream.write_all(&self.out).unwrap();
        self.replies(replies);
    }

    /// Reads so many replies, none of which may be a refusal.
    fn replies(&mut self, mut expected: usize) {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while expected > 0 {
            let length = self.stream.read(&mut buffer).unwrap();
            assert!(length > 0, "the edge has closed the connection");
            read.extend_from_slice(&buffer[..length]);
            while let Some(end) = read.windows(2).position(|pair| pair == b"\r\n") {
                assert!(
                    matches!(read[0], b'2' | b'3'),
                    "{}",
                    String::from_utf8_lossy(&read)
                );
                expected -= usize::from(read[3] == b' ');
                read.drain(..end + 2);
            }
        }
    }
}

/// CPU time of the edge's threads.
fn cpu_time() -> Duration {
    let nanoseconds = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| {
            let path = task.ok()?.path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let spent = std::fs::read_to_string(path.join("schedstat")).ok()?;
            (name.trim() == THREADS).then(|| spent.split(' ').next()?.parse::<u64>().ok())?
        })
        .sum();
    Duration::from_nanos(nanoseconds)
}

/// Memory of this process now, in octets.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Accepts everything and keeps nothing; nobody lives here.
struct Nothing;

#[async_trait]
impl Queue for Nothing {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>> {
        let accepted = EnqueueResult {
            status: enqueue_result::Status::Accepted.into(),
            detail: String::new(),
        };
        Ok(vec![accepted; messages.len()])
    }

    async fn put_body(&self, _body: BodyStream) -> Result<PutBodyResponse> {
        Err(Status::unimplemented("bodies"))
    }

    async fn get_body(&self, _name: String) -> Result<BodyStream> {
        Err(Status::unimplemented("bodies"))
    }

    async fn work(
        &self,
        _from_worker: BoxStream<'static, WorkerFrame>,
    ) -> Result<BoxStream<'static, Result<QueueFrame>>> {
        Err(Status::unimplemented("work"))
    }
}

#[async_trait]
impl Directory for Nothing {
    async fn lookup(&self, addresses: Vec<String>) -> Result<Vec<Verdict>> {
        Ok(vec![Verdict::NoSuchUser; addresses.len()])
    }

    async fn authenticate(&self, _request: AuthenticateRequest) -> Result<AuthenticateResponse> {
        Err(Status::unimplemented("accounts"))
    }
}
