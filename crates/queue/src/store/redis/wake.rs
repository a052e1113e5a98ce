//! Wakes from all instances, over a connection that listens.
//!
//! Channels are sharded ones (`SSUBSCRIBE`), so that a cluster carries a partition's wakes only on the
//! node that has it. When the partition moves to another node, the old one says so.

use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::QueueId;
use redis::aio::{MultiplexedConnection, SendError};
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::hint::Hint;
use super::keys::Names;
use crate::store::Wake;

/// Characters of a queue id.
const ID: usize = 26;
/// The first and the longest wait before another try to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Passes on what is heard of one partition.
#[derive(Clone)]
pub(super) struct Ear {
    pub(super) wakes: broadcast::Sender<Wake>,
    pub(super) hint: Arc<Hint>,
    /// The channel of journeys.
    journeys: String,
    wake: String,
}

impl Ear {
    pub(super) fn new(names: &Names, wakes: broadcast::Sender<Wake>, hint: Arc<Hint>) -> Self {
        Self {
            wakes,
            hint,
            journeys: names.journeys_channel(),
            wake: names.wake_channel(),
        }
    }

    fn hear(&self, channel: &[u8], message: &[u8]) {
        let Ok(text) = std::str::from_utf8(message) else {
            return;
        };
        if channel == self.journeys.as_bytes() {
            // The dispatcher always listens; whoever else does, follows journeys.
            if self.wakes.receiver_count() < 2 {
                return;
            }
            for id in text.as_bytes().chunks_exact(ID) {
                let id = std::str::from_utf8(id)
                    .ok()
                    .and_then(|id| id.parse::<QueueId>().ok());
                if let Some(id) = id {
                    self.tell(Wake::Journey(id));
                }
            }
        } else if text.is_empty() {
            self.hint.time_came_nearer();
            self.tell(Wake::Timer);
        } else if text == "records" {
            self.tell(Wake::Records);
        } else if let Ok(destination) = text.parse() {
            self.hint.something_came();
            self.tell(Wake::Destination(destination));
        }
    }

    /// Whatever was published while nobody listened is lost.
    fn everything(&self) {
        self.hint.something_came();
        self.hint.time_came_nearer();
        self.tell(Wake::Everything);
    }

    fn tell(&self, wake: Wake) {
        // Nobody may be listening.
        drop(self.wakes.send(wake));
    }
}

/// Listens until `closed`.
pub(super) async fn listen(connector: Arc<Connector>, ear: Ear, closed: CancellationToken) {
    tokio::select! {
        () = closed.cancelled() => {}
        () = listen_for_ever(&connector, &ear) => {}
    }
}

async fn listen_for_ever(connector: &Connector, ear: &Ear) {
    let mut wait = BACKOFF.0;
    loop {
        let mut places = connector.places();
        let (over, mut ended) = mpsc::channel(1);
        match subscribe(connector, ear, over).await {
            Ok(connection) => {
                wait = BACKOFF.0;
                ear.everything();
                tokio::select! {
                    _ = ended.recv() => {}
                    // Whoever took over is to be listened to, even if the old one still talks.
                    Ok(()) = places.changed() => {}
                }
                drop(connection);
                let address = connector.address();
                tracing::warn!(address, "no wakes from Redis for now");
            }
            Err(error) => {
                let address = connector.address();
                tracing::debug!(address, %error, "cannot listen to Redis");
            }
        }
        tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// A connection that hears; `over` is told when it does not any more.
async fn subscribe(
    connector: &Connector,
    ear: &Ear,
    over: mpsc::Sender<()>,
) -> anyhow::Result<MultiplexedConnection> {
    let hears = ear.clone();
    let mut connection = connector
        .listen(move |push: PushInfo| -> Result<(), SendError> {
            match push.kind {
                PushKind::SMessage => {
                    if let [Value::BulkString(channel), Value::BulkString(message)] =
                        push.data.as_slice()
                    {
                        hears.hear(channel, message);
                    }
                }
                // The slot went elsewhere, or the connection is lost.
                PushKind::SUnsubscribe | PushKind::Disconnection => {
                    over.try_send(()).ok();
                }
                _ => {}
            }
            Ok(())
        })
        .await?;
    for channel in [&ear.wake, &ear.journeys] {
        let mut subscribe = cmd("SSUBSCRIBE");
        subscribe.arg(channel);
        let subscribed = subscribe.query_async::<Value>(&mut connection);
        tokio::time::timeout(connector.connect_timeout(), subscribed).await??;
    }
    Ok(connection)
}
