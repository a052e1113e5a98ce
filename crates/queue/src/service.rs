//! The queue as a service: opens the store, checks what comes in, and answers.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use postrider_config::ServerConfig;
use postrider_protocol::api::{self, BodyStream, Queue};
use postrider_protocol::queue_v1::enqueue_result::Status as Stored;
use postrider_protocol::queue_v1::{
    EnqueueResult, NewMessage, PutBodyResponse, QueueFrame, WorkerFrame, body,
};
use tokio_util::sync::CancellationToken;

use crate::acts::Acts;
use crate::bodies::Bodies;
use crate::config::QueueConfig;
use crate::dispatch::{DispatchSettings, Dispatcher};
use crate::metrics;
use crate::open;
use crate::store::{Enqueued, Store, StoreError};
use crate::validate;

/// Between looks at ended bodies, while there are some, and at what is queued, for the metrics.
const TIDY: Duration = Duration::from_secs(5);
/// Between sweeps for bodies that no message names.
const SWEEP: Duration = Duration::from_secs(900);
/// Messages of one request.
const MOST_MESSAGES: usize = 10_000;

/// The queue over a store: implements [`Queue`] and `api::QueueAdmin`.
pub struct QueueService {
    pub(crate) store: Arc<dyn Store>,
    bodies: Bodies,
    threshold: usize,
    dispatcher: Dispatcher,
    pub(crate) acts: Acts,
}

impl QueueService {
    /// Opens the configured store, and recovers what an unclean end left.
    ///
    /// # Errors
    /// The settings make no sense, or the store is not reachable, is in use, or cannot keep what
    /// it would have to promise.
    pub async fn open(server: &ServerConfig, config: QueueConfig) -> anyhow::Result<Arc<Self>> {
        let problems = config.validate();
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
        let store = open::store(server, &config).await?;
        let bodies = open::bodies(server, &config)?;
        Ok(Self::with(store, bodies, &config, &server.hostname))
    }

    /// The service over a store that is open, with stored bodies in a folder.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn over(
        store: Arc<dyn Store>,
        bodies_dir: &Path,
        config: &QueueConfig,
        hostname: &str,
    ) -> anyhow::Result<Arc<Self>> {
        let bodies = Bodies::in_dir(bodies_dir)?;
        Ok(Self::with(store, bodies, config, hostname))
    }

    fn with(
        store: Arc<dyn Store>,
        bodies: Bodies,
        config: &QueueConfig,
        hostname: &str,
    ) -> Arc<Self> {
        let instance = format!("queue@{hostname}");
        let dispatch = DispatchSettings {
            instance: instance.clone(),
            lease: config.lease.0,
            slots_per_destination: config.slots_per_destination,
            prefetch_per_slot: config.prefetch_per_slot,
            drain: config.drain.0,
            policies: config.policies(),
        };
        postrider_telemetry::metric::describe(metrics::METRICS);
        let dispatcher = Dispatcher::start(store.clone(), dispatch);
        // An act is in its instance's hands as a delivery is in a worker's.
        let records = dispatcher.records();
        Arc::new(Self {
            bodies,
            threshold: usize::try_from(config.bodies.threshold.0)
                .unwrap_or(usize::MAX)
                .min(validate::LARGEST_INLINE),
            acts: Acts::start(store.clone(), &instance, config.lease.0, records),
            dispatcher,
            store,
        })
    }

    /// Runs until told to stop; then lets workers finish what they have, makes everything durable
    /// and closes the store.
    ///
    /// # Errors
    /// The store could not be closed cleanly. Nothing that was acknowledged is lost.
    pub async fn run(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut tidy = tokio::time::interval(TIDY);
        let mut sweep = tokio::time::interval(SWEEP);
        for interval in [&mut tidy, &mut sweep] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                _ = tidy.tick() => self.tidy().await,
                _ = sweep.tick() => self.sweep().await,
                () = shutdown.cancelled() => break,
            }
        }
        self.acts.stop().await;
        self.dispatcher.drain().await;
        self.store.close().await?;
        Ok(())
    }

    async fn tidy(&self) {
        match self.bodies.delete_ended(&*self.store).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "bodies of ended messages are deleted"),
            Err(error) => tracing::warn!(%error, "bodies of ended messages stay for now"),
        }
        match self.store.stats().await {
            Ok(stats) => metrics::queued(&stats),
            Err(error) => tracing::debug!(%error, "no counts now"),
        }
    }

    async fn sweep(&self) {
        if let Err(error) = self.bodies.sweep(&*self.store).await {
            tracing::warn!(%error, "bodies that no message names stay for now");
        }
    }

    /// Checks a message, and takes care of its body: what is too large to lie in the store's
    /// records is stored beside them.
    async fn prepare(&self, mut message: NewMessage) -> Result<NewMessage, EnqueueResult> {
        validate::message(&message).map_err(|problem| result(Stored::Invalid, problem))?;
        let content = message.body.as_mut().map(|body| &mut body.content);
        match content {
            Some(Some(body::Content::Stored(name))) => match self.bodies.exists(name).await {
                Ok(true) => {}
                Ok(false) => {
                    let problem = format!("there is no stored body {name}");
                    return Err(result(Stored::Invalid, problem));
                }
                Err(error) => return Err(body_error(&error)),
            },
            Some(Some(content @ body::Content::Inline(_))) => {
                let body::Content::Inline(bytes) = content else {
                    return Ok(message);
                };
                if bytes.len() > self.threshold {
                    let bytes: Bytes = std::mem::take(bytes);
                    match self.bodies.put_content(bytes).await {
                        Ok(name) => *content = body::Content::Stored(name),
                        Err(error) => return Err(body_error(&error)),
                    }
                }
            }
            Some(None) | None => {}
        }
        Ok(message)
    }
}

#[async_trait]
impl Queue for QueueService {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> api::Result<Vec<EnqueueResult>> {
        if messages.len() > MOST_MESSAGES {
            return Err(postrider_protocol::Status::invalid_argument(format!(
                "more than {MOST_MESSAGES} messages in one request"
            )));
        }
        let started = Instant::now();
        let mut results = Vec::with_capacity(messages.len());
        let mut ready = Vec::with_capacity(messages.len());
        for message in messages {
            match self.prepare(message).await {
                Ok(message) => {
                    ready.push(message);
                    results.push(None);
                }
                Err(refused) => results.push(Some(refused)),
            }
        }
        let mut stored = match ready.is_empty() {
            true => Vec::new(),
            false => self.store.enqueue(ready).await,
        }
        .into_iter();
        metrics::enqueued(started.elapsed());
        Ok(results
            .into_iter()
            .map(|refused| {
                refused
                    .or_else(|| stored.next().map(stored_result))
                    .unwrap_or_else(|| {
                        result(Stored::Unavailable, "the store did not answer".to_owned())
                    })
            })
            .inspect(|result| match result.status() {
                Stored::Accepted => metrics::accepted(),
                Stored::Unavailable => metrics::unavailable(),
                Stored::Unconfirmed => metrics::unconfirmed(),
                Stored::Invalid => metrics::invalid(),
                Stored::AlreadyAccepted | Stored::Unspecified => {}
            })
            .collect())
    }

    async fn put_body(&self, body: BodyStream) -> api::Result<PutBodyResponse> {
        self.bodies.put(body).await
    }

    async fn get_body(&self, name: String) -> api::Result<BodyStream> {
        self.bodies.get(&name).await
    }

    async fn work(
        &self,
        from_worker: BoxStream<'static, WorkerFrame>,
    ) -> api::Result<BoxStream<'static, api::Result<QueueFrame>>> {
        Ok(self.dispatcher.converse(from_worker))
    }
}

fn stored_result(stored: Result<Enqueued, StoreError>) -> EnqueueResult {
    match stored {
        Ok(Enqueued::Accepted) => result(Stored::Accepted, String::new()),
        Ok(Enqueued::AlreadyAccepted) => result(Stored::AlreadyAccepted, String::new()),
        Err(StoreError::Invalid(problem)) => result(Stored::Invalid, problem),
        Err(error @ (StoreError::Unavailable(_) | StoreError::Damaged(_))) => {
            tracing::warn!(%error, "a message was not stored");
            result(Stored::Unavailable, error.to_string())
        }
        Err(error @ StoreError::Unconfirmed(_)) => {
            tracing::warn!(%error, "nobody knows whether a message was stored");
            result(Stored::Unconfirmed, error.to_string())
        }
    }
}

fn body_error(error: &postrider_protocol::Status) -> EnqueueResult {
    match error.code() {
        postrider_protocol::Code::InvalidArgument => {
            result(Stored::Invalid, error.message().to_owned())
        }
        _ => {
            tracing::warn!(%error, "a stored body could not be written or found");
            result(Stored::Unavailable, error.message().to_owned())
        }
    }
}

fn result(status: Stored, detail: String) -> EnqueueResult {
    EnqueueResult {
        status: status as i32,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_stored_is_not_said_to_be_refused() {
        let told = |error| stored_result(Err(error)).status();
        let reason = || "away".to_owned();
        assert_eq!(told(StoreError::Unavailable(reason())), Stored::Unavailable);
        assert_eq!(told(StoreError::Unconfirmed(reason())), Stored::Unconfirmed);
    }
}
