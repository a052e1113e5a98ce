//! The processes of a run: how each is configured, started, and hurt.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::peers::{self, Process};
use crate::server::binary;

/// One process, with a config file, a data folder and a log of its own.
#[derive(Debug)]
pub struct Node {
    /// "edge", "queue-1", "delivery-3": also what a worker says in EHLO.
    pub name: String,
    program: &'static str,
    dir: PathBuf,
    telemetry: u16,
    environment: Vec<(&'static str, String)>,
    process: Option<Process>,
    /// It was told to stop, and is left alone.
    stopping: Option<Process>,
}

impl Node {
    /// Writes its config file. It does not run yet.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(
        root: &Path,
        name: &str,
        program: &'static str,
        config: &str,
    ) -> anyhow::Result<Self> {
        let dir = root.join(name);
        fs::create_dir_all(&dir)?;
        let telemetry = peers::free_port();
        let text = format!(
            "[server]\nhostname = \"{name}\"\ndata_dir = {data:?}\n\n[telemetry]\nlisten = [\"127.0.0.1:{telemetry}\"]\n\n{config}",
            data = dir.join("data").display().to_string(),
        );
        fs::write(dir.join("postrider.toml"), text)?;
        Ok(Self {
            name: name.to_owned(),
            program,
            dir,
            telemetry,
            environment: Vec::new(),
            process: None,
            stopping: None,
        })
    }

    /// Sets a variable of its environment, e.g. `POSTRIDER__SERVER__DOMAINS`, for starts from now on.
    pub fn set(&mut self, variable: &'static str, value: &str) {
        self.environment.push((variable, value.to_owned()));
    }

    /// Starts it (again).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))?;
        let mut command = Command::new(binary(self.program)?);
        if self.program == "postrider" {
            command.arg("serve");
        }
        command
            .arg("--config")
            .arg(self.dir.join("postrider.toml"))
            .envs(self.environment.iter().map(|(key, value)| (*key, value)))
            // Its last lines are to say why it ended.
            .env_remove("RUST_BACKTRACE")
            .current_dir(&self.dir)
            .stdout(Stdio::null())
            .stderr(log);
        // What has not stopped by now has had its time.
        self.stopping = None;
        self.process = Some(Process::start(&self.name, &mut command)?);
        Ok(())
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Tells it to stop. It may take its time, until it is started again.
    ///
    /// # Errors
    /// It does not run.
    pub fn tell_to_stop(&mut self) -> anyhow::Result<()> {
        self.signal("TERM")?;
        self.stopping = self.process.take();
        Ok(())
    }

    /// Sends it a signal by name.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        match &self.process {
            Some(process) => peers::signal(process.id(), name),
            None => bail!("{} does not run", self.name),
        }
    }

    /// What it said of a panic, which its process may have outlived.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn panic(&self) -> anyhow::Result<Option<String>> {
        let log = fs::read(self.dir.join("log"))?;
        let log = String::from_utf8_lossy(&log);
        let panic = log.lines().find(|line| line.contains("panicked at"));
        Ok(panic.map(str::to_owned))
    }

    /// Stops it gently.
    ///
    /// # Errors
    /// It does not stop in time, or with an error.
    pub fn stop(&mut self, limit: Duration) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.stop(limit)?;
            if !status.success() {
                bail!("{} stopped with {status}", self.name);
            }
        }
        Ok(())
    }

    /// Whether it says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        crate::http::get(self.telemetry, "/health/ready").is_ok_and(|(status, _)| status == 200)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// What a supervisor does: starts it again if it has ended because its store was away when it
    /// started. Says whether it had.
    ///
    /// # Errors
    /// It has ended by itself for any other reason, or cannot be started.
    pub fn supervise(&mut self) -> anyhow::Result<bool> {
        let Some(process) = &mut self.process else {
            return Ok(false);
        };
        if process.is_running() {
            return Ok(false);
        }
        let log = self.log_tail(8);
        if !log.contains("Error: opening the queue's store") {
            bail!("{} has ended by itself: {log}", self.name);
        }
        self.start()?;
        Ok(true)
    }
}

/// Waits until all say that they are ready.
///
/// # Errors
/// One does not in time; its log is in the error.
pub fn wait_until_ready(nodes: &mut [Node], limit: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    for node in nodes {
        while !node.is_ready() {
            node.supervise()?;
            if Instant::now() > end {
                bail!(
                    "{} is not ready after {limit:?}: {}",
                    node.name,
                    node.log_tail(20)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// The section `[edge]`.
#[must_use]
pub fn edge(port: u16) -> String {
    format!(
        "[edge]\nlisteners = [{{ address = \"127.0.0.1:{port}\", role = \"mx\" }}]\n\
         trusted_networks = [\"127.0.0.0/8\"]\n\n"
    )
}

/// The sections `[queue]` and below, without the store's own.
#[must_use]
pub fn queue(store: &str, lease: Duration, slots: usize, bodies: &Path) -> String {
    format!(
        "[queue]\nstore = \"{store}\"\nlease = \"{lease}ms\"\nslots_per_destination = {slots}\n\n\
         [queue.retry]\nfirst = \"250ms\"\nfactor = 1.0\nmost = \"250ms\"\njitter = 0.1\n\n\
         [queue.bodies]\ndir = {bodies:?}\n\n",
        lease = lease.as_millis(),
        bodies = bodies.display().to_string(),
    )
}

/// The section `[delivery]`: each destination has a server of its own.
#[must_use]
pub fn delivery(sinks: &[(String, SocketAddr)]) -> String {
    let mut text = "[delivery]\nidle = \"2s\"\nunreachable = \"300ms\"\n\n".to_owned();
    for (domain, address) in sinks {
        text.push_str(&format!(
            "[[delivery.routes]]\nrecipient = \"{domain}\"\nvia = \"{address}\"\n\n"
        ));
    }
    text
}

/// The section `[services]`.
#[must_use]
pub fn services(queue: SocketAddr, listen: SocketAddr, mailbox: u16) -> String {
    format!(
        "[services]\nqueue = \"http://{queue}\"\nqueue_listen = \"{listen}\"\n\
         mailbox = \"http://127.0.0.1:{mailbox}\"\nmailbox_listen = \"127.0.0.1:{mailbox}\"\n\n\
         [mailbox.pop3]\nlisteners = []\n\n"
    )
}
