//! A connection to Redis that comes back.
//!
//! One task owns it: it connects, has the server's settings checked, publishes the connection,
//! and starts over when a call reports it broken. Calls wait for a connection only so long.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::failure::Failure;
use super::script::Script;
use crate::store::StoreError;

/// The first and the longest wait before another try to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

#[derive(Clone)]
enum State {
    /// Not connected, and why.
    Down(String),
    Up {
        connection: MultiplexedConnection,
        /// Which connection this is, so that a late complaint does not end its successor.
        generation: u64,
    },
}

/// Whether a call may be made once more when nobody knows whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The call changes nothing when it is carried out twice.
    Safe,
    /// It does.
    Never,
}

/// Calls that share one connection.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    broken: mpsc::Sender<u64>,
    /// After each call, wait for what makes it durable.
    wait: Option<Arc<Cmd>>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Link {
    /// A link that starts with this connection and ends with `closed`.
    pub(super) fn start(
        connector: Arc<Connector>,
        first: MultiplexedConnection,
        wait: Option<Cmd>,
        closed: CancellationToken,
    ) -> Self {
        let (publish, state) = watch::channel(State::Up {
            connection: first,
            generation: 0,
        });
        let (broken, complaints) = mpsc::channel(16);
        let link = Self {
            state,
            broken,
            wait: wait.map(Arc::new),
            connect_timeout: connector.connect_timeout(),
            response_timeout: connector.response_timeout(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = keep_connected(&connector, publish, complaints) => {}
            }
        });
        link
    }

    /// Runs a script.
    pub(super) async fn run(
        &self,
        script: &Script,
        cmd: &Cmd,
        repeat: Repeat,
    ) -> Result<Value, StoreError> {
        let give_up = Instant::now() + self.connect_timeout;
        loop {
            let (connection, generation) = self.connected(give_up).await?;
            let failure = match self.once(connection, script, cmd).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if failure.broken {
                // The task may have ended or have complaints enough; then this one is needless.
                self.broken.try_send(generation).ok();
                self.after(generation, give_up).await;
            }
            if !failure.again || repeat == Repeat::Never || Instant::now() >= give_up {
                return Err(failure.error);
            }
            if !failure.broken {
                sleep(BACKOFF.0).await;
            }
        }
    }

    /// Runs a plain command that is safe to repeat.
    pub(super) async fn query(&self, cmd: &Cmd) -> Result<Value, StoreError> {
        let give_up = Instant::now() + self.connect_timeout;
        let (mut connection, generation) = self.connected(give_up).await?;
        self.in_time(connection.send_packed_command(cmd))
            .await
            .and_then(server_error)
            .map_err(|failure| {
                if failure.broken {
                    self.broken.try_send(generation).ok();
                }
                failure.error
            })
    }

    async fn once(
        &self,
        mut connection: MultiplexedConnection,
        script: &Script,
        cmd: &Cmd,
    ) -> Result<Value, Failure> {
        let first = self.send(&mut connection, cmd).await;
        match first {
            Err(failure) if failure.unknown_script => {
                self.in_time(connection.send_packed_command(&script.load()))
                    .await
                    .and_then(server_error)?;
                self.send(&mut connection, cmd).await
            }
            other => other,
        }
    }

    async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        cmd: &Cmd,
    ) -> Result<Value, Failure> {
        let Some(wait) = &self.wait else {
            return self
                .in_time(connection.send_packed_command(cmd))
                .await
                .and_then(server_error);
        };
        let mut both = Pipeline::with_capacity(2);
        both.add_command(cmd.clone())
            .add_command(wait.as_ref().clone());
        let answers = self
            .in_time(connection.send_packed_commands(&both, 0, 2))
            .await?;
        let mut answers = answers.into_iter();
        let answer = answers.next().unwrap_or(Value::Nil);
        let answer = server_error(answer)?;
        let copies = server_error(answers.next().unwrap_or(Value::Nil))?;
        if super::connect::is_enough(wait, &copies) {
            Ok(answer)
        } else {
            // It is written, but not where it was promised to be. The call is safe to repeat.
            Err(Failure {
                error: StoreError::Unavailable(
                    "too few replicas have confirmed the write".to_owned(),
                ),
                broken: false,
                again: false,
                unknown_script: false,
            })
        }
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Failure> {
        match timeout(self.response_timeout, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure::on_the_way("no answer in time")),
        }
    }

    /// The connection, as soon as there is one.
    async fn connected(
        &self,
        give_up: Instant,
    ) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut state = self.state.clone();
        let reason = loop {
            let reason = match &*state.borrow_and_update() {
                State::Up {
                    connection,
                    generation,
                } => return Ok((connection.clone(), *generation)),
                State::Down(reason) => reason.clone(),
            };
            match tokio::time::timeout_at(give_up, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break "the store is closed".to_owned(),
                Err(_) => break reason,
            }
        };
        Err(StoreError::Unavailable(reason))
    }

    /// Waits until the connection is another one, or none.
    async fn after(&self, old: u64, give_up: Instant) {
        let mut state = self.state.clone();
        let changed = state
            .wait_for(|state| !matches!(state, State::Up { generation, .. } if *generation == old));
        // Whatever comes of the wait, the caller's loop looks at the state itself.
        drop(tokio::time::timeout_at(give_up, changed).await);
    }
}

fn server_error(value: Value) -> Result<Value, Failure> {
    value.extract_error().map_err(|error| Failure::of(&error))
}

async fn keep_connected(
    connector: &Connector,
    publish: watch::Sender<State>,
    mut complaints: mpsc::Receiver<u64>,
) {
    let mut generation = 0;
    while let Some(broken) = complaints.recv().await {
        if broken != generation {
            continue;
        }
        tracing::warn!(address = connector.address(), "connection to Redis lost");
        publish.send_replace(State::Down("no connection to Redis".to_owned()));
        let mut wait = BACKOFF.0;
        let connection = loop {
            match connector.connect().await {
                Ok(connection) => break connection,
                Err(error) => {
                    let reason = error.to_string();
                    tracing::debug!(
                        address = connector.address(),
                        reason,
                        "cannot connect to Redis"
                    );
                    publish.send_replace(State::Down(reason));
                }
            }
            // Half of the wait is left to chance, so that many instances do not come at once.
            sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            wait = (wait * 2).min(BACKOFF.1);
        };
        generation += 1;
        tracing::info!(address = connector.address(), "connected to Redis again");
        publish.send_replace(State::Up {
            connection,
            generation,
        });
    }
}
