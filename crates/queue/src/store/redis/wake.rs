//! Wakes from all instances, over a connection that listens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use postrider_protocol::QueueId;
use redis::Msg;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::keys::{JOURNEYS_CHANNEL, WAKE_CHANNEL};
use crate::store::Wake;

/// Characters of a queue id.
const ID: usize = 26;
/// The first and the longest wait before another try to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Listens until `closed`. After every new connection `Everything` is sent: what was published
/// while there was none is lost.
pub(super) async fn listen(
    connector: Arc<Connector>,
    wakes: broadcast::Sender<Wake>,
    closed: CancellationToken,
) {
    tokio::select! {
        () = closed.cancelled() => {}
        () = listen_for_ever(&connector, &wakes) => {}
    }
}

async fn listen_for_ever(connector: &Connector, wakes: &broadcast::Sender<Wake>) {
    let mut wait = BACKOFF.0;
    loop {
        match subscribe(connector).await {
            Ok(messages) => {
                wait = BACKOFF.0;
                tell(wakes, Wake::Everything);
                let mut messages = messages.into_on_message();
                while let Some(message) = messages.next().await {
                    pass_on(&message, wakes);
                }
                tracing::warn!(address = connector.address(), "no wakes from Redis for now");
            }
            Err(error) => {
                tracing::debug!(address = connector.address(), %error, "cannot listen to Redis");
            }
        }
        tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

async fn subscribe(connector: &Connector) -> anyhow::Result<redis::aio::PubSub> {
    let mut connection = connector.listen().await?;
    let subscribed = connection.subscribe(&[WAKE_CHANNEL, JOURNEYS_CHANNEL]);
    tokio::time::timeout(connector.connect_timeout(), subscribed).await??;
    Ok(connection)
}

fn pass_on(message: &Msg, wakes: &broadcast::Sender<Wake>) {
    let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) else {
        return;
    };
    if message.get_channel_name() == JOURNEYS_CHANNEL {
        // The dispatcher always listens; whoever else does, follows journeys.
        if wakes.receiver_count() < 2 {
            return;
        }
        for id in text.as_bytes().chunks_exact(ID) {
            let id = std::str::from_utf8(id)
                .ok()
                .and_then(|id| id.parse::<QueueId>().ok());
            if let Some(id) = id {
                tell(wakes, Wake::Journey(id));
            }
        }
    } else if text.is_empty() {
        tell(wakes, Wake::Timer);
    } else if let Ok(destination) = text.parse() {
        tell(wakes, Wake::Destination(destination));
    }
}

fn tell(wakes: &broadcast::Sender<Wake>, wake: Wake) {
    // Nobody may be listening.
    drop(wakes.send(wake));
}
