//! Connecting to the server that takes writes now.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use redis::ConnectionAddr;
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use tokio::sync::watch;

use super::access::{Access, Whom};
use super::config::{Durability, RedisConfig};
use super::inspect::Server;
use super::locate::Locator;
use super::wait::Wait;

/// Makes connections to the server of one slot, wherever that is.
pub(super) struct Connector {
    access: Access,
    locator: Arc<Locator>,
    slot: u16,
    config: RedisConfig,
    /// A key in the slot, for waits.
    barrier: String,
    /// Where the latest connection went.
    place: watch::Sender<Option<ConnectionAddr>>,
}

/// A connection, and how to wait on it for what makes writes durable, where the answer alone does
/// not say so.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) wait: Option<Arc<Wait>>,
}

impl Connector {
    /// Reads the credentials; connects nowhere yet.
    pub(super) fn new(
        config: &RedisConfig,
        locator: Arc<Locator>,
        slot: u16,
        barrier: String,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            access: Access::new(config, Whom::Servers)?,
            locator,
            slot,
            config: config.clone(),
            barrier,
            place: watch::Sender::new(None),
        })
    }

    /// The latest server, for logs.
    pub(super) fn address(&self) -> String {
        let place = self.place.borrow();
        place.as_ref().map_or_else(String::new, ToString::to_string)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.config.connect_timeout.0
    }

    pub(super) fn response_timeout(&self) -> Duration {
        self.config.response_timeout.0
    }

    pub(super) fn locator(&self) -> &Locator {
        &self.locator
    }

    /// Tells when the server is another one.
    pub(super) fn places(&self) -> watch::Receiver<Option<ConnectionAddr>> {
        self.place.subscribe()
    }

    /// Whether writes go elsewhere by now than to where the latest connection went.
    pub(super) async fn is_elsewhere(&self) -> bool {
        match self.locator.master(self.slot).await {
            Ok(address) => self.place.borrow().as_ref() != Some(&address),
            Err(_) => false,
        }
    }

    /// A new connection to a server that was checked.
    pub(super) async fn connect(&self) -> anyhow::Result<Connected> {
        let address = self.locator.master(self.slot).await?;
        let mut connection = self.access.connect(&address).await?;
        let server = Server::ask(&mut connection)
            .await
            .with_context(|| format!("asking Redis at {address} about itself"))?;
        server.check(&self.config, &address.to_string())?;
        self.place.send_if_modified(|place| {
            let new = place.as_ref() != Some(&address);
            *place = Some(address);
            new
        });
        let wait = match self.config.durability {
            Durability::Fsync => None,
            Durability::Replicated(copies) => {
                // Shorter than the response's deadline, so that the answer says how many there were.
                let most = self.response_timeout() * 3 / 4;
                let wait = Wait::new(copies, server.waits_for_disks(), most, self.barrier.clone());
                wait.prepare(&mut connection).await?;
                Some(Arc::new(wait))
            }
        };
        Ok(Connected { connection, wait })
    }

    /// A new connection that hands over what the server says unasked.
    pub(super) async fn listen(
        &self,
        hear: impl AsyncPushSender,
    ) -> anyhow::Result<MultiplexedConnection> {
        let address = self.locator.master(self.slot).await?;
        self.access.listen(&address, hear).await
    }
}
