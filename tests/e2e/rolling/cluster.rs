//! Every service, of most more than one, on one Redis.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use postrider_tests::chaos::proxy::Proxy;
use postrider_tests::chaos::system::{self, Node};
use postrider_tests::peers;
use postrider_tests::redis::Redis;
use postrider_tests::server::binary;

use super::mail::LOCAL;
use crate::world::PASSWORD;

/// For a process to finish what it has in hand.
const STOP: Duration = Duration::from_secs(45);
const START: Duration = Duration::from_secs(30);

/// Two edges, two queues, three delivery workers, the mailboxes.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Where clients connect to.
    pub(crate) edges: [SocketAddr; 2],
    /// A queue for operators.
    pub(crate) queue: SocketAddr,
    mailboxes: PathBuf,
    // What routes calls to whoever is there; gone when dropped.
    _routers: Vec<Proxy>,
    _redis: Redis,
}

impl Cluster {
    /// Starts it, with everything that is not local relayed to `sink`.
    pub(crate) async fn start(dir: &Path, sink: SocketAddr) -> anyhow::Result<Self> {
        let redis = Redis::start(&dir.join("redis"))?;
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let queues = [local(peers::free_port()), local(peers::free_port())];
        let edges = [local(peers::free_port()), local(peers::free_port())];
        let mailbox = peers::free_port();
        let mut routers = Vec::new();
        let mut nodes = Vec::new();
        for (n, listen) in (1..).zip(queues) {
            let text = [
                system::services(listen, listen, mailbox),
                system::queue("redis", Duration::from_secs(5), 8, &dir.join("bodies")),
                format!("[queue.redis]\nurl = {:?}\n", redis.url()),
            ];
            let name = format!("queue-{n}");
            nodes.push(Node::new(dir, &name, "postrider-queue", &text.concat())?);
        }
        let nowhere = local(peers::free_port());
        let text = system::services(queues[0], nowhere, mailbox);
        nodes.push(Node::new(dir, "mailbox", "postrider-mailbox", &text)?);
        for (n, port) in (1..).zip(edges.map(|edge| edge.port())) {
            let router = Self::route(&queues, n).await?;
            let text = [
                system::services(router.address, nowhere, mailbox),
                system::edge(port),
            ];
            routers.push(router);
            let name = format!("edge-{n}");
            nodes.push(Node::new(dir, &name, "postrider-edge", &text.concat())?);
        }
        for n in 1..=3 {
            let router = Self::route(&queues, n).await?;
            let text = [
                system::services(router.address, nowhere, mailbox),
                system::delivery(&[("*".to_owned(), sink)]),
            ];
            routers.push(router);
            let name = format!("delivery-{n}");
            nodes.push(Node::new(dir, &name, "postrider-delivery", &text.concat())?);
        }
        for node in &mut nodes {
            node.set("POSTRIDER__SERVER__DOMAINS", "here.test");
        }
        make_account(&dir.join("mailbox/postrider.toml"))?;
        for node in &mut nodes {
            node.start()?;
        }
        system::wait_until_ready(&mut nodes, START)?;
        Ok(Self {
            nodes,
            edges,
            queue: queues[0],
            mailboxes: dir.join("mailbox/data/mailboxes"),
            _routers: routers,
            _redis: redis,
        })
    }

    /// A way to the queues that prefers another one for each.
    async fn route(queues: &[SocketAddr; 2], n: usize) -> anyhow::Result<Proxy> {
        let mut order = queues.to_vec();
        order.rotate_left(n % 2);
        Ok(Proxy::start(order).await?)
    }

    /// SIGTERM, until it has ended.
    pub(crate) fn stop(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        node.stop(STOP).with_context(|| node.log_tail(20))
    }

    /// A new process in its place, until it is ready.
    pub(crate) fn start_again(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        node.start()?;
        system::wait_until_ready(std::slice::from_mut(node), START)
    }

    /// How often each number is in the local mailbox.
    pub(crate) fn delivered_here(&self) -> anyhow::Result<BTreeMap<u64, u32>> {
        let mut counts = BTreeMap::new();
        let (name, domain) = LOCAL.split_once('@').context("a domain")?;
        for file in std::fs::read_dir(self.mailboxes.join(domain).join(name).join("new"))? {
            let text = std::fs::read_to_string(file?.path())?;
            let number = text
                .lines()
                .find_map(|line| line.strip_prefix(postrider_tests::source::NUMBER_HEADER));
            let number = number.context("mail that no source has sent")?.parse()?;
            *counts.entry(number).or_default() += 1;
        }
        Ok(counts)
    }

    /// The last lines of every log.
    pub(crate) fn logs(&self) -> String {
        let logs = self
            .nodes
            .iter()
            .map(|node| format!("\n--- {}\n{}", node.name, node.log_tail(15)));
        logs.collect()
    }
}

fn make_account(config: &Path) -> anyhow::Result<()> {
    let mut child = Command::new(binary("postrider")?)
        .args(["account", "add", LOCAL, "--config"])
        .arg(config)
        .env("POSTRIDER__SERVER__DOMAINS", "here.test")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    input.write_all(format!("{PASSWORD}\n").as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "the account could not be made");
    Ok(())
}
