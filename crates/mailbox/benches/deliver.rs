//! What a final delivery costs: messages a second, CPU and syncs a message.
//!
//! `cargo bench -p postrider-mailbox --bench deliver [-- <folder> <messages>]`; the folder decides
//! about the disk. Measures and prints; asserts only that everything was delivered.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use postrider_config::ServerConfig;
use postrider_mailbox::{MailboxConfig, MailboxService};
use postrider_protocol::QueueId;
use postrider_protocol::api::Mailbox;
use postrider_protocol::mailbox_v1::DeliverHeader;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ACCOUNTS: usize = 100;

/// CPU time of this process: user and system.
fn cpu() -> (Duration, Duration) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    let time = |field: usize| Duration::from_millis(fields[field].parse::<u64>().unwrap() * 10);
    (time(11), time(12))
}

async fn run(
    service: &Arc<MailboxService>,
    clients: usize,
    accounts: usize,
    recipients: usize,
    messages: usize,
) {
    let content = Bytes::from(
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(64),
    );
    let (began, before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (service, content) = (service.clone(), content.clone());
            tokio::spawn(async move {
                for n in 0..messages / clients {
                    let queue_id = QueueId::new();
                    let address = |r| format!("u{}@c.test", (client + n + r) % accounts);
                    let header = DeliverHeader {
                        queue_id: queue_id.to_string(),
                        delivery_id: format!("{queue_id}.0"),
                        reverse_path: "bob@d.test".to_owned(),
                        recipients: (0..recipients).map(address).collect(),
                        size: content.len() as u64,
                        ..DeliverHeader::default()
                    };
                    let body = stream::iter([Ok(content.clone())]).boxed();
                    let results = service.deliver(header, body).await.unwrap();
                    assert!(
                        results.iter().all(|result| result.reply_code == 250),
                        "{results:?}"
                    );
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (time, after) = (began.elapsed(), cpu());
    let messages = (messages / clients * clients) as f64;
    println!(
        "{clients:>3} at once, {accounts:>3} mailboxes, {recipients:>2} recipients: {:>6.0} messages/s, {:>4.0} µs user + {:>4.0} µs system a message",
        messages / time.as_secs_f64(),
        (after.0 - before.0).as_secs_f64() * 1e6 / messages,
        (after.1 - before.1).as_secs_f64() * 1e6 / messages,
    );
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    let parent = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let messages = arguments.next().map_or(4_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir_in(parent).unwrap();
    let accounts: String = (0..ACCOUNTS).map(|n| format!("u{n}@c.test !\n")).collect();
    std::fs::write(folder.path().join("accounts"), accounts).unwrap();
    let server = ServerConfig {
        domains: vec!["c.test".to_owned()],
        data_dir: folder.path().to_owned(),
        ..ServerConfig::default()
    };
    let service = MailboxService::open(&server, MailboxConfig::default()).unwrap();
    // Every mailbox exists when the clock starts.
    run(&service, 10, ACCOUNTS, 1, ACCOUNTS * 10).await;
    for (clients, accounts, recipients) in [
        (1, 1, 1),
        (20, 1, 1),
        (20, ACCOUNTS, 1),
        (64, ACCOUNTS, 1),
        (20, ACCOUNTS, 10),
    ] {
        run(
            &service,
            clients,
            accounts,
            recipients,
            messages / recipients,
        )
        .await;
    }
}
