//! Postrider itself, as its users start it: the release or debug binaries of this workspace.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

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
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Which processes.
    pub mode: Mode,
    /// Which store.
    pub store: Store,
    /// Relay everything that is not local to this address, for any client of loopback.
    pub relay_to: Option<SocketAddr>,
}

/// A running Postrider.
#[derive(Debug)]
pub struct Server {
    processes: Vec<(&'static str, Process)>,
    /// Port of the listener of role `mx`.
    pub mx: u16,
}

impl Server {
    /// x
    pub fn start(_dir: &Path, _settings: &Settings) -> anyhow::Result<Self> {
        anyhow::bail!("later")
    }
    /// x
    pub fn processes(&self) -> Vec<u32> {
        self.processes.iter().map(|(_, process)| process.id()).collect()
    }
}
