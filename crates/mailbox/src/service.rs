//! The service that ties directory, store and delivery together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use postrider_config::ServerConfig;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::accounts::{LiveAccounts, Verifier};
use crate::config::MailboxConfig;
use crate::directory::Rules;
use crate::metrics::Metrics;
use crate::store::Maildirs;

/// How often what crashes left in `tmp` folders is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// Accounts and their mail on this machine; implements
/// [`Directory`](postrider_protocol::api::Directory) and
/// [`Mailbox`](postrider_protocol::api::Mailbox).
pub struct MailboxService {
    pub(crate) accounts: LiveAccounts,
    pub(crate) verifier: Verifier,
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) store: Arc<Maildirs>,
    /// Bounds the deliveries that are at the disk.
    pub(crate) writers: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    opened_with: MailboxConfig,
}

impl MailboxService {
    /// Reads the accounts and prepares the folder of the mailboxes.
    ///
    /// # Errors
    /// The accounts file is malformed or unreadable, or the folder cannot be made.
    pub fn open(server: &ServerConfig, config: MailboxConfig) -> anyhow::Result<Arc<Self>> {
        let path = config.accounts_path(server);
        let accounts = LiveAccounts::open(path.clone())
            .with_context(|| format!("reading the accounts in {}", path.display()))?;
        let root = config.mail_path(server);
        let metrics = Metrics::new();
        let store = Maildirs::open(root.clone(), metrics.clone())
            .with_context(|| format!("preparing the mailboxes in {}", root.display()))?;
        let verifier = Verifier::new(
            config.password_checks.get() as usize,
            config.password_memory.0,
        )?;
        Ok(Arc::new(Self {
            accounts,
            verifier,
            rules: ArcSwap::from_pointee(Rules::new(server, &config)),
            store: Arc::new(store),
            writers: Arc::new(Semaphore::new(config.disk_writers.get() as usize)),
            metrics,
            opened_with: config,
        }))
    }

    /// Takes over new domains, postmaster and delimiter. Names what only a restart can change.
    /// (The accounts file needs no reload.)
    pub fn reload(&self, server: &ServerConfig, config: &MailboxConfig) -> Vec<String> {
        self.rules.store(Arc::new(Rules::new(server, config)));
        let old = &self.opened_with;
        [
            ("mail_dir", old.mail_dir != config.mail_dir),
            ("accounts_file", old.accounts_file != config.accounts_file),
            ("disk_writers", old.disk_writers != config.disk_writers),
            (
                "password_checks",
                old.password_checks != config.password_checks,
            ),
            (
                "password_memory",
                old.password_memory != config.password_memory,
            ),
        ]
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| format!("mailbox.{key} takes effect at the next start"))
        .collect()
    }

    /// Keeps house until told to stop: sweeps what crashes have left in `tmp` folders.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let store = self.store.clone();
            match tokio::task::spawn_blocking(move || store.sweep()).await {
                Ok(Ok(0)) => {}
                Ok(Ok(files)) => info!(files, "swept unfinished deliveries of an earlier crash"),
                Ok(Err(error)) => warn!(%error, "cannot sweep the mailboxes"),
                Err(error) => warn!(%error, "sweeping the mailboxes failed"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }
}
