//! The mailboxes as a process: `kill -9` under load, reload, stop, and what idle connections cost.

#![allow(clippy::unwrap_used)] // Outside of #[test] functions clippy does not see that this is a test.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use postrider_protocol::QueueId;
use postrider_protocol::api::{Directory, Mailbox};
use postrider_protocol::grpc::{self, ServicesConfig};
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, DeliverHeader, lookup_response::Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MESSAGES: usize = 600;
const SENDERS: usize = 16;
const KILLS: usize = 6;

/// The binary, started over one folder as often as it is killed.
struct Process {
    config: PathBuf,
    child: Child,
}

impl Process {
    fn start(config: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_postrider-mailbox"))
            .arg("--config")
            .arg(config)
            // What is freed goes back to the system at once, so that memory can be measured.
            .env("MIMALLOC_PURGE_DELAY", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            config: config.to_owned(),
            child,
        }
    }

    fn kill_and_restart(&mut self) {
        // SIGKILL: nothing is told, nothing is finished.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        *self = Self::start(&self.config.clone());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn write_config(folder: &Path, grpc: SocketAddr) -> PathBuf {
    let path = folder.join("postrider.toml");
    let text = format!(
        "[server]\nhostname = \"localhost\"\ndomains = [\"c.test\"]\ndata_dir = {folder:?}\n\
         [services]\nmailbox_listen = \"{grpc}\"\n[telemetry]\nlisten = []\n\
         [mailbox.pop3]\nlisteners = []\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn content(number: usize) -> Bytes {
    // Of every size from one write to many.
    let lines = [1, 60, 700, 6_000][number % 4];
    format!(
        "Number: {number}\r\n\r\n{}end\r\n",
        "0123456789abcdef\r\n".repeat(lines)
    )
    .into()
}

/// `kill -9` at random moments while numbered messages are delivered over gRPC: each one that was
/// acknowledged is there, whole and once, and nothing unfinished shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_mail_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("accounts"),
        "alice@c.test !\nbob@c.test !\n",
    )
    .unwrap();
    let grpc = free_address();
    let config = write_config(folder.path(), grpc);
    let mut process = Process::start(&config);
    let services = ServicesConfig {
        mailbox: format!("http://{grpc}"),
        ..ServicesConfig::default()
    };
    let client = Arc::new(grpc::mailbox(&services).unwrap());

    let ids: Arc<Vec<QueueId>> = Arc::new((0..MESSAGES).map(|_| QueueId::new()).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let repeated = Arc::new(Mutex::new(0));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (client, ids) = (client.clone(), ids.clone());
            let (next, repeated) = (next.clone(), repeated.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(id) = ids.get(number) else { return };
                    // Like the queue: until it is acknowledged, under the same id.
                    while !deliver(&*client, *id, number, &repeated).await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            })
        })
        .collect();
    for kill in 0..KILLS {
        let step = MESSAGES / (KILLS + 1);
        while next.load(Ordering::SeqCst) < step * (kill + 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.kill_and_restart();
    }
    for sender in senders {
        sender.await.unwrap();
    }
    process.kill_and_restart();

    for account in ["alice", "bob"] {
        let maildir = folder.path().join("mailboxes/c.test").join(account);
        let mut found: HashMap<usize, usize> = HashMap::new();
        for entry in std::fs::read_dir(maildir.join("new")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let (_, message) = text.split_once("\r\n").unwrap();
            let number: usize = message.lines().next().unwrap()["Number: ".len()..]
                .parse()
                .unwrap();
            assert_eq!(
                message.as_bytes(),
                content(number),
                "message {number} is not whole"
            );
            *found.entry(number).or_default() += 1;
        }
        assert_eq!(found.len(), MESSAGES, "messages are lost");
        assert!(
            found.values().all(|copies| *copies == 1),
            "messages are there twice"
        );
    }
    println!(
        "deliveries repeated after a kill: {}",
        repeated.lock().unwrap()
    );
}

/// Whether it was acknowledged for both.
async fn deliver(
    client: &impl Mailbox,
    id: QueueId,
    number: usize,
    repeated: &Mutex<usize>,
) -> bool {
    let content = content(number);
    let header = DeliverHeader {
        queue_id: id.to_string(),
        delivery_id: format!("{id}.0"),
        recipients: vec!["alice@c.test".to_owned(), "bob@c.test".to_owned()],
        size: content.len() as u64,
        ..DeliverHeader::default()
    };
    let pieces: Vec<_> = content
        .chunks(16 * 1024)
        .map(Bytes::copy_from_slice)
        .map(Ok)
        .collect();
    let call = client.deliver(header, stream::iter(pieces).boxed());
    match tokio::time::timeout(Duration::from_secs(10), call).await {
        Ok(Ok(results)) => {
            assert_eq!(results.len(), 2);
            *repeated.lock().unwrap() += usize::from(results[0].text.contains("before"));
            results.iter().all(|result| result.reply_code == 250)
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

#[tokio::test]
async fn the_process_serves_reloads_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("accounts"), "alice@c.test !\n").unwrap();
    let grpc = free_address();
    let config = write_config(folder.path(), grpc);
    let mut process = Process::start(&config);
    let services = ServicesConfig {
        mailbox: format!("http://{grpc}"),
        ..ServicesConfig::default()
    };
    let client = grpc::mailbox(&services).unwrap();
    let addresses = || {
        vec![
            "alice@c.test".to_owned(),
            "x@c.test".to_owned(),
            "a@d.test".to_owned(),
        ]
    };
    let lookup = async || {
        for _ in 0..200 {
            if let Ok(verdicts) = client.lookup(addresses()).await {
                return verdicts;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the process does not answer");
    };
    assert_eq!(
        lookup().await,
        [Verdict::Exists, Verdict::NoSuchUser, Verdict::NotLocal]
    );
    let request = AuthenticateRequest {
        account: "alice@c.test".to_owned(),
        password: "any".to_owned(),
        client_address: "192.0.2.1".to_owned(),
    };
    assert_eq!(client.authenticate(request).await.unwrap().account, "");

    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("[\"c.test\"]", "[\"c.test\", \"d.test\"]"),
    )
    .unwrap();
    std::fs::write(
        folder.path().join("accounts"),
        "alice@c.test !\na@d.test !\n",
    )
    .unwrap();
    let signal = |name: &str| {
        let id = process.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-HUP");
    for _ in 0..200 {
        if lookup().await[2] == Verdict::Exists {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(lookup().await[2], Verdict::Exists);
    signal("-TERM");
    drop(client);
    let status = tokio::task::spawn_blocking(move || process.child.wait().unwrap());
    let status = tokio::time::timeout(Duration::from_secs(20), status).await;
    assert!(status.expect("it stops").unwrap().success());
}

/// Resident memory of a process, in KiB.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_idle_connection_costs_little() {
    // With those for warming up, as many as fit into the usual limit of 1,024 open files.
    const CONNECTIONS: usize = 900;
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), free_address());
    let pop3 = free_address();
    let listening = format!(
        "listeners = [{{ address = \"{pop3}\", role = \"pop3\" }}]\nconnections_per_client = 1000"
    );
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("listeners = []", &listening)).unwrap();
    let process = Process::start(&config);
    let open = async || {
        for _ in 0..400 {
            if let Ok(mut stream) = tokio::net::TcpStream::connect(pop3).await {
                let mut greeting = [0; 200];
                assert_ne!(stream.read(&mut greeting).await.unwrap(), 0);
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the process does not answer");
    };
    // The first ones warm up what all share.
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(open().await);
    }
    let before = resident(process.child.id());
    for _ in 0..CONNECTIONS {
        let mut stream = open().await;
        stream.write_all(b"CAPA\r\n").await.unwrap();
        assert_ne!(stream.read(&mut [0; 500]).await.unwrap(), 0);
        streams.push(stream);
    }
    let grown = resident(process.child.id()).saturating_sub(before) * 1_024;
    let each = grown / CONNECTIONS as u64;
    println!("an idle plain connection costs {each} bytes ({before} KiB before)");
    assert!(each <= 16 * 1_024, "{each} bytes");
}
