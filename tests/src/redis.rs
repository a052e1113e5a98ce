//! A Redis server of the test's own, from its Debian package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::peers::{self, Process};

/// A running `redis-server` on loopback: append-only file on, synced at every write, nothing evicted.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    /// Its port.
    pub port: u16,
    dir: PathBuf,
}

impl Redis {
    /// Starts one on a free port with its data in `dir`.
    ///
    /// # Errors
    /// The program is missing or does not start.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut redis = Self {
            process: None,
            port: peers::free_port(),
            dir: dir.to_owned(),
        };
        redis.restart()?;
        Ok(redis)
    }

    /// Starts it again on the same port and data, after [`Redis::kill`].
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(peers::program("usr/bin/redis-server")?);
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .args([
                "--maxmemory-policy",
                "noeviction",
                "--save",
                "",
                "--daemonize",
                "no",
            ])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(Process::start("redis-server", &mut command)?);
        peers::wait_for_port(self.port, Duration::from_secs(10)).context("redis-server")
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// `redis://127.0.0.1:port/`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its process id, if it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}
