//! Postrider itself, as its users start it: the binaries of this workspace, a config file, a
//! data folder.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::peers::{self, Process};

/// Which processes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// `postrider serve`
    #[default]
    OneProcess,
    /// `postrider-edge`, `-queue`, `-delivery`, `-mailbox`, gRPC between them.
    Split,
}

/// Where its queue lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Store {
    /// On local disk.
    #[default]
    Embedded,
    /// At this URL.
    Redis(String),
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which processes.
    pub mode: Mode,
    /// Which store.
    pub store: Store,
    /// Its name.
    pub hostname: String,
    /// Domains whose mailboxes are here.
    pub domains: Vec<String>,
    /// Accounts to make, each with its password.
    pub accounts: Vec<(String, String)>,
    /// Relay everything that is not local to this address.
    pub relay_to: Option<SocketAddr>,
    /// Relay what is for a domain to an address; before `relay_to`.
    pub routes: Vec<(String, SocketAddr)>,
    /// Whether any client of loopback may relay.
    pub trust_loopback: bool,
    /// The DNS server to ask, and the port on which other servers are.
    pub dns: Option<(SocketAddr, u16)>,
    /// Where traces go, "http://127.0.0.1:port".
    pub otlp: Option<String>,
    /// The wait after a first deferral; the factor is 1.
    pub retry: Duration,
    /// Further environment, e.g. `("POSTRIDER__QUEUE__LIFETIME", "2s")`.
    pub environment: Vec<(&'static str, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::OneProcess,
            store: Store::Embedded,
            hostname: "postrider.test".to_owned(),
            domains: Vec::new(),
            accounts: Vec::new(),
            relay_to: None,
            routes: Vec::new(),
            trust_loopback: true,
            dns: None,
            otlp: None,
            retry: Duration::from_secs(1),
            environment: Vec::new(),
        }
    }
}

/// The ports of one server, all on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// SMTP between servers.
    pub mx: u16,
    /// Submission with STARTTLS.
    pub submission: u16,
    /// Submission over TLS.
    pub submissions: u16,
    /// POP3 with STLS.
    pub pop3: u16,
    /// POP3 over TLS.
    pub pop3s: u16,
    /// gRPC of the queue.
    pub queue: u16,
    /// gRPC of the mailbox.
    pub mailbox: u16,
    /// Metrics and health: of the one process, or of edge, queue, delivery, mailbox.
    pub telemetry: [u16; 4],
}

/// A running Postrider. It is killed when dropped; its data is the caller's.
#[derive(Debug)]
pub struct Server {
    processes: Vec<(&'static str, Option<Process>)>,
    /// Where it listens.
    pub ports: Ports,
    dir: PathBuf,
    settings: Settings,
}

const SPLIT: [&str; 4] = [
    "postrider-queue",
    "postrider-mailbox",
    "postrider-edge",
    "postrider-delivery",
];

impl Server {
    /// Writes a config file into `dir`, makes the accounts, starts the processes and waits until
    /// they are ready.
    ///
    /// # Errors
    /// A binary is missing, or something does not come up.
    pub fn start(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let port = peers::free_port;
        let ports = Ports {
            mx: port(),
            submission: port(),
            submissions: port(),
            pop3: port(),
            pop3s: port(),
            queue: port(),
            mailbox: port(),
            telemetry: [port(), port(), port(), port()],
        };
        fs::write(dir.join("postrider.toml"), config(dir, settings, &ports))?;
        let names: &[&'static str] = match settings.mode {
            Mode::OneProcess => &["postrider"],
            Mode::Split => &SPLIT,
        };
        let mut server = Self {
            processes: names.iter().map(|name| (*name, None)).collect(),
            ports,
            dir: dir.to_owned(),
            settings: settings.clone(),
        };
        for (account, password) in &settings.accounts {
            server.add_account(account, password)?;
        }
        for name in names {
            server.start_process(name)?;
        }
        server.wait_until_ready(Duration::from_secs(30))?;
        Ok(server)
    }

    /// Starts one of its processes (again).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_process(&mut self, name: &str) -> anyhow::Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("{name}.log")))?;
        let mut command = Command::new(binary(name)?);
        if name == "postrider" {
            command.arg("serve");
        }
        command
            .arg("--config")
            .arg(self.dir.join("postrider.toml"))
            .envs(
                self.settings
                    .environment
                    .iter()
                    .map(|(key, value)| (*key, value)),
            )
            .current_dir(&self.dir)
            .stdout(Stdio::null())
            .stderr(log);
        if self.settings.mode == Mode::Split {
            let at = [
                "postrider-edge",
                "postrider-queue",
                "postrider-delivery",
                "postrider-mailbox",
            ]
            .iter()
            .position(|known| *known == name)
            .context("a service's name")?;
            command.env(
                "POSTRIDER__TELEMETRY__LISTEN",
                format!("127.0.0.1:{}", self.ports.telemetry[at]),
            );
        }
        let process = Process::start(name, &mut command)?;
        let slot = self
            .processes
            .iter_mut()
            .find(|(known, _)| *known == name)
            .context("a process' name")?;
        slot.1 = Some(process);
        Ok(())
    }

    /// Waits until every process says that it is ready.
    ///
    /// # Errors
    /// One has ended, or is not ready in time; its log is in the error.
    pub fn wait_until_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        let telemetry = match self.settings.mode {
            Mode::OneProcess => &self.ports.telemetry[..1],
            Mode::Split => &self.ports.telemetry[..],
        };
        for port in telemetry {
            while !crate::http::get(*port, "/health/ready").is_ok_and(|(status, _)| status == 200) {
                for (name, process) in &mut self.processes {
                    if process
                        .as_mut()
                        .is_some_and(|process| !process.is_running())
                    {
                        bail!(
                            "{name} ended: {}",
                            tail(&self.dir.join(format!("{name}.log")))
                        );
                    }
                }
                if Instant::now() > end {
                    bail!("not ready after {limit:?}: {}", self.logs());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Its processes' names.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.processes.iter().map(|(name, _)| *name).collect()
    }

    /// The ids of its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.processes
            .iter()
            .filter_map(|(_, process)| Some(process.as_ref()?.id()))
            .collect()
    }

    /// Ends one process as `kill -9` does.
    pub fn kill(&mut self, name: &str) {
        for (known, process) in &mut self.processes {
            if *known == name {
                *process = None;
            }
        }
    }

    /// Sends SIGTERM to one process and waits until it has drained.
    ///
    /// # Errors
    /// It does not stop in time, or with an error.
    pub fn stop(&mut self, name: &str, limit: Duration) -> anyhow::Result<()> {
        for (known, process) in &mut self.processes {
            if *known == name
                && let Some(mut process) = process.take()
            {
                let status = process.stop(limit)?;
                if !status.success() {
                    bail!(
                        "{name} stopped with {status}: {}",
                        tail(&self.dir.join(format!("{name}.log")))
                    );
                }
            }
        }
        Ok(())
    }

    /// Runs `postrider` with these arguments against this server, and gives what it printed.
    ///
    /// # Errors
    /// It exits with an error; what it printed is in the error.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(binary("postrider")?)
            .args(arguments)
            .arg("--config")
            .arg(self.dir.join("postrider.toml"))
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "postrider {arguments:?}: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(text)
    }

    /// Makes an account with `postrider account add`, the password on standard input.
    ///
    /// # Errors
    /// It fails.
    pub fn add_account(&self, account: &str, password: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut child = Command::new(binary("postrider")?)
            .args(["account", "add", account, "--config"])
            .arg(self.dir.join("postrider.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("standard input")?
            .write_all(format!("{password}\n").as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "account add {account}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// The certificate that its listeners show, made by itself at the first start.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("data/tls/self-signed.pem")
    }

    /// The last lines of every process' log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.processes
            .iter()
            .map(|(name, _)| {
                format!(
                    "\n--- {name}\n{}",
                    tail(&self.dir.join(format!("{name}.log")))
                )
            })
            .collect()
    }

    /// The whole log of one process.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default()
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A binary of this workspace, in the profile in which the tests were built.
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("POSTRIDER_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        // target/<profile>/deps/<this test>
        None => std::env::current_exe()?
            .parent()
            .and_then(Path::parent)
            .context("the target folder")?
            .to_owned(),
    };
    let path = folder.join(name);
    if !path.is_file() {
        bail!(
            "{} is not built: `cargo build --workspace --bins` in the same profile",
            path.display()
        );
    }
    Ok(path)
}

fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

fn config(dir: &Path, settings: &Settings, ports: &Ports) -> String {
    let mut text = format!(
        r#"[server]
hostname = "{hostname}"
domains = {domains}
data_dir = {data:?}

[services]
queue = "http://127.0.0.1:{queue}"
queue_listen = "127.0.0.1:{queue}"
mailbox = "http://127.0.0.1:{mailbox}"
mailbox_listen = "127.0.0.1:{mailbox}"

[telemetry]
listen = ["127.0.0.1:{telemetry}"]
{otlp}

[edge]
listeners = [
    {{ address = "127.0.0.1:{mx}", role = "mx" }},
    {{ address = "127.0.0.1:{submission}", role = "submission" }},
    {{ address = "127.0.0.1:{submissions}", role = "submissions" }},
]
trusted_networks = {trusted}

[mailbox.pop3]
listeners = [
    {{ address = "127.0.0.1:{pop3}", role = "pop3" }},
    {{ address = "127.0.0.1:{pop3s}", role = "pop3s" }},
]

[queue]
store = "{store}"

[queue.retry]
first = "{retry}ms"
factor = 1.0
most = "{retry}ms"
jitter = 0.1
"#,
        hostname = settings.hostname,
        domains = list(&settings.domains),
        data = dir.join("data").display().to_string(),
        queue = ports.queue,
        mailbox = ports.mailbox,
        telemetry = ports.telemetry[0],
        otlp = settings
            .otlp
            .as_ref()
            .map(|url| format!("otlp_endpoint = {url:?}"))
            .unwrap_or_default(),
        mx = ports.mx,
        submission = ports.submission,
        submissions = ports.submissions,
        trusted = if settings.trust_loopback {
            "[\"127.0.0.0/8\"]"
        } else {
            "[]"
        },
        pop3 = ports.pop3,
        pop3s = ports.pop3s,
        store = if settings.store == Store::Embedded {
            "embedded"
        } else {
            "redis"
        },
        retry = settings.retry.as_millis(),
    );
    if let Store::Redis(url) = &settings.store {
        text.push_str(&format!("\n[queue.redis]\nurl = {url:?}\n"));
    }
    text.push_str("\n[delivery]\n");
    if let Some((server, port)) = settings.dns {
        text.push_str(&format!("resolvers = [\"{server}\"]\nport = {port}\n"));
    }
    for (domain, via) in &settings.routes {
        text.push_str(&format!(
            "\n[[delivery.routes]]\nrecipient = {domain:?}\nvia = \"{via}\"\n"
        ));
    }
    if let Some(relay) = settings.relay_to {
        text.push_str(&format!(
            "\n[[delivery.routes]]\nrecipient = \"*\"\nvia = \"{relay}\"\n"
        ));
    }
    text
}
