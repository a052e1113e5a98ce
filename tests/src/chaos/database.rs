//! The Redis of a run: one server, a master with replicas and Sentinels, or a Cluster.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::peers::{self, Process};

/// How a Redis is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One server.
    Standalone,
    /// A master, two replicas, three Sentinels.
    Sentinel,
    /// Three masters with a replica each.
    Cluster,
}

/// What the Sentinels call the master.
const SERVICE: &str = "queue";
/// Until a master that does not answer counts as gone, in milliseconds.
const GONE_MS: u32 = 1_000;

/// A running Redis.
#[derive(Debug)]
pub struct Database {
    layout: Layout,
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    /// Who is away, and whether only stopped.
    victim: Option<(usize, bool)>,
    next: usize,
    promotions: u32,
}

#[derive(Debug)]
struct Server {
    port: u16,
    dir: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Server {
    fn new(dir: PathBuf, arguments: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut server = Self {
            port: peers::free_port(),
            dir,
            arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
            process: None,
        };
        server.start()?;
        Ok(server)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))?;
        let mut command = Command::new(peers::program("usr/bin/redis-server")?);
        command
            .args(&self.arguments)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(&self.dir)
            .stdout(log)
            .stderr(Stdio::null());
        self.process = Some(Process::start("redis-server", &mut command)?);
        peers::wait_for_port(self.port, Duration::from_secs(10)).context("redis-server")
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("it runs")?;
        peers::signal(process.id(), name)
    }

    fn is_master(&self) -> anyhow::Result<bool> {
        Ok(self.ask(&["ROLE"])?.starts_with("master"))
    }

    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(peers::program("usr/bin/redis-cli")?)
            .args(["-p", &self.port.to_string()])
            .args(words)
            .stderr(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What lets a server be trusted with mail.
const SAFE: [&str; 8] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--save",
    "",
    "--maxmemory-policy",
    "noeviction",
];

impl Database {
    /// Starts it, its data in `dir`.
    ///
    /// # Errors
    /// A program is missing, or something does not come up.
    pub fn start(layout: Layout, dir: &Path) -> anyhow::Result<Self> {
        let mut database = Self {
            layout,
            servers: Vec::new(),
            sentinels: Vec::new(),
            victim: None,
            next: 0,
            promotions: 0,
        };
        match layout {
            Layout::Standalone => database
                .servers
                .push(Server::new(dir.join("redis"), &SAFE)?),
            Layout::Sentinel => database.start_with_sentinels(dir)?,
            Layout::Cluster => database.start_cluster(dir)?,
        }
        Ok(database)
    }

    fn start_with_sentinels(&mut self, dir: &Path) -> anyhow::Result<()> {
        for n in 0..3 {
            let mut arguments = SAFE.to_vec();
            let master = self.servers.first().map(|master| master.port.to_string());
            if let Some(master) = &master {
                arguments.extend(["--replicaof", "127.0.0.1", master]);
            }
            let server = Server::new(dir.join(format!("redis-{n}")), &arguments)?;
            self.servers.push(server);
        }
        for n in 0..3 {
            let dir = dir.join(format!("sentinel-{n}"));
            fs::create_dir_all(&dir)?;
            let file = dir.join("sentinel.conf");
            let text = format!(
                "sentinel monitor {SERVICE} 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds {SERVICE} {GONE_MS}\n\
                 sentinel failover-timeout {SERVICE} 4000\n",
                self.servers[0].port
            );
            fs::write(&file, text)?;
            let file = file.display().to_string();
            self.sentinels
                .push(Server::new(dir, &[&file, "--sentinel"])?);
        }
        self.until(
            "both replicas and the other Sentinels are known",
            |database| {
                let known = database.sentinels[0].ask(&["SENTINEL", "REPLICAS", SERVICE])?;
                let others = database.sentinels[0].ask(&["SENTINEL", "SENTINELS", SERVICE])?;
                Ok(known.matches("slave-repl-offset").count() == 2
                    && others.matches("runid").count() == 2)
            },
        )
    }

    fn start_cluster(&mut self, dir: &Path) -> anyhow::Result<()> {
        let gone = GONE_MS.to_string();
        let mut nodes = Vec::new();
        for n in 0..6 {
            // Left alone, it takes a port that the system may have given to a connection.
            let bus = peers::free_port().to_string();
            let mut arguments = SAFE.to_vec();
            arguments.extend(["--cluster-enabled", "yes", "--cluster-node-timeout", &gone]);
            arguments.extend(["--cluster-port", &bus]);
            let server = Server::new(dir.join(format!("redis-{n}")), &arguments)?;
            nodes.push(format!("127.0.0.1:{}@{bus}", server.port));
            self.servers.push(server);
        }
        let output = Command::new(peers::program("usr/bin/redis-cli")?)
            .args(["--cluster", "create"])
            .args(nodes)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()?;
        if !output.status.success() {
            bail!("no cluster: {}", String::from_utf8_lossy(&output.stdout));
        }
        self.until("the cluster is whole", |database| {
            for server in &database.servers {
                let nodes = server.ask(&["CLUSTER", "NODES"])?;
                let info = server.ask(&["CLUSTER", "INFO"])?;
                let replicas = nodes.lines().filter(|line| line.contains("slave")).count();
                if !info.contains("cluster_state:ok") || replicas != 3 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn until(
        &self,
        what: &str,
        mut holds: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds(self)? {
            if Instant::now() > end {
                bail!("not so after 30 s: {what}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The address of the one server, for a proxy; `None` where clients learn addresses themselves.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        (self.layout == Layout::Standalone)
            .then(|| SocketAddr::from(([127, 0, 0, 1], self.servers[0].port)))
    }

    /// The section `[queue.redis]` for a client that reaches the one server at `address`.
    #[must_use]
    pub fn config(&self, address: Option<SocketAddr>) -> String {
        let urls = |servers: &[Server]| -> String {
            let urls: Vec<String> = servers
                .iter()
                .map(|server| format!("\"redis://127.0.0.1:{}\"", server.port))
                .collect();
            urls.join(", ")
        };
        let layout = match self.layout {
            Layout::Standalone => format!(
                "url = \"redis://{}/\"",
                address
                    .or(self.address())
                    .map_or(String::new(), |at| at.to_string())
            ),
            Layout::Sentinel => format!(
                "kind = \"sentinel\"\nurls = [{}]\nservice = \"{SERVICE}\"\ndurability = \"replicated(1)\"",
                urls(&self.sentinels)
            ),
            Layout::Cluster => format!(
                "kind = \"cluster\"\nurls = [{}]\ndurability = \"replicated(1)\"",
                urls(&self.servers)
            ),
        };
        format!("[queue.redis]\n{layout}\nresponse_timeout = \"5s\"\n")
    }

    /// For how many milliseconds a server may be away; see [`super::plan::Targets`].
    #[must_use]
    pub fn away(&self) -> Range<u64> {
        match self.layout {
            Layout::Standalone => 10..1_500,
            // Until it counts as gone, is voted on, and another one has begun.
            Layout::Sentinel | Layout::Cluster => 3_000..7_000,
        }
    }

    /// Takes the server, or a master, away: by `kill -9`, or stopped only. Says which.
    ///
    /// # Errors
    /// It cannot be told who is a master.
    pub fn take_away(&mut self, stopped_only: bool) -> anyhow::Result<String> {
        let at = match self.layout {
            Layout::Standalone => 0,
            Layout::Sentinel | Layout::Cluster => self.a_master()?,
        };
        let server = &mut self.servers[at];
        match stopped_only {
            true => server.signal("STOP")?,
            false => server.process = None,
        }
        self.victim = Some((at, stopped_only));
        Ok(format!("redis on port {}", self.servers[at].port))
    }

    /// One that is a master now; in a cluster not always the same.
    fn a_master(&mut self) -> anyhow::Result<usize> {
        for n in 0..self.servers.len() {
            let at = (self.next + n) % self.servers.len();
            if self.servers[at].is_master()? {
                self.next = at + 1;
                return Ok(at);
            }
        }
        bail!("nobody is a master")
    }

    /// Brings back what was taken away. Says who has taken over meanwhile, if anybody has.
    ///
    /// # Errors
    /// It does not start.
    pub fn bring_back(&mut self) -> anyhow::Result<Option<String>> {
        let Some((victim, stopped_only)) = self.victim.take() else {
            return Ok(None);
        };
        let mut masters = Vec::new();
        for (at, server) in self.servers.iter().enumerate() {
            if at != victim && server.is_master()? {
                masters.push(server.port.to_string());
            }
        }
        match stopped_only {
            true => self.servers[victim].signal("CONT")?,
            false => self.servers[victim].start()?,
        }
        let all = match self.layout {
            Layout::Standalone => return Ok(None),
            Layout::Sentinel => 1,
            Layout::Cluster => 3,
        };
        let taken_over = masters.len() == all;
        self.promotions += u32::from(taken_over);
        Ok(taken_over.then(|| masters.join(", ")))
    }

    /// How often another server has taken over.
    #[must_use]
    pub fn promotions(&self) -> u32 {
        self.promotions
    }

    /// Whether another server can take over.
    #[must_use]
    pub fn fails_over(&self) -> bool {
        self.layout != Layout::Standalone
    }
}
