//! Where the peers' programs are, and processes that end with their owner.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The folder into which `cargo xtask test` unpacks the servers' Debian packages.
///
/// # Errors
/// It is not there.
pub fn root() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let root =
        std::env::var_os("POSTRIDER_PEERS").map_or_else(|| target.join("peers"), PathBuf::from);
    root.canonicalize().with_context(|| {
        format!(
            "no peers in {}: `cargo xtask e2e` fetches them",
            root.display()
        )
    })
}

/// A program of the unpacked packages, by its path there.
///
/// # Errors
/// It is not there.
pub fn program(path: &str) -> anyhow::Result<PathBuf> {
    let program = root()?.join(path);
    if !program.is_file() {
        bail!(
            "the peer {} is missing: `cargo xtask e2e` fetches it",
            program.display()
        );
    }
    Ok(program)
}

/// A port of 127.0.0.1 that nothing listens on just now.
///
/// It is below the range from which the system gives ports to connections, so that none takes it before
/// its server does, and processes at one time begin at different places.
///
/// # Panics
/// No port can be bound at all.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 22_000;
    (0..PORTS)
        .map(|_| std::process::id() * 64 + GIVEN.fetch_add(1, Ordering::Relaxed))
        .filter_map(|number| u16::try_from(FIRST + number % PORTS).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port on loopback")
}

/// Waits until something listens on a port of 127.0.0.1.
///
/// # Errors
/// Nothing did in time.
pub fn wait_for_port(port: u16, limit: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > end {
            bail!("nothing listens on port {port} after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A process that is killed when its owner is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program. Its output goes where `command` says, by default nowhere.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only for a process that has ended, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It did not end in time; it is killed then.
    pub fn stop(&mut self, limit: Duration) -> anyhow::Result<std::process::ExitStatus> {
        signal(self.id(), "TERM")?;
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                self.kill();
                bail!("{} did not stop within {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal, by name ("TERM", "HUP"), to a process that this run has started.
///
/// # Errors
/// There is no such process.
pub fn signal(id: u32, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(id.to_string())
        .status()?;
    if !status.success() {
        bail!("kill -{name} {id}: {status}");
    }
    Ok(())
}
