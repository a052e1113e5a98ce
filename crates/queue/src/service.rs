//! The queue as a service: checks what comes in, and answers.

use std::sync::Arc;

use postrider_config::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::config::QueueConfig;

/// The queue over a store: implements `api::Queue` and `api::QueueAdmin`.
#[derive(Debug)]
pub struct QueueService {
    _config: QueueConfig,
}

impl QueueService {
    /// Opens the configured store, and recovers what an unclean end left.
    ///
    /// # Errors
    /// The store is not reachable, is in use, or cannot keep what it would have to promise.
    pub async fn open(_server: &ServerConfig, config: QueueConfig) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self { _config: config }))
    }

    /// Runs until told to stop: leases that expire, bodies that nobody names any more. Returns
    /// when what was under way is durable.
    pub async fn run(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        shutdown.cancelled().await;
        Ok(())
    }
}
