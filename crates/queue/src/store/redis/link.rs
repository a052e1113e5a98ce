//! A connection to Redis that comes back.
//!
//! One task owns it: it finds the server and connects, has its settings checked, publishes the
//! connection, and starts over when a call reports it broken, or reports that another server may
//! have taken over. Calls wait for a connection only so long.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::{Connected, Connector};
use super::failure::Failure;
use super::script::Script;
use super::wait::Wait;
use crate::store::StoreError;

/// The first and the longest wait before another try to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// How often it is asked at most whether another server has taken over.
const SUSPICION: Duration = Duration::from_millis(500);

#[derive(Clone)]
enum State {
    /// Not connected, and why.
    Down(String),
    Up(Arc<Up>),
}

struct Up {
    connection: MultiplexedConnection,
    /// After each call, wait for what makes it durable.
    wait: Option<Arc<Wait>>,
    /// Which connection this is, so that a late complaint does not end its successor.
    generation: u64,
}

/// What a call found wrong with a connection.
struct Complaint {
    generation: u64,
    /// It still works, but perhaps goes to the wrong server.
    suspect: bool,
    /// Where the slot is, in the server's words.
    moved: Option<String>,
}

/// Whether a call may be made once more when nobody knows whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The call changes nothing when it is carried out twice.
    Safe,
    /// It does.
    Never,
}

/// What is sent to run a script.
enum Call<'a> {
    /// The script alone.
    One(&'a Cmd),
    /// A transaction, the script last in it.
    Last(&'a Pipeline),
}

/// Calls that share one connection.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    complaints: mpsc::Sender<Complaint>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Link {
    /// A link that starts with this connection, or connects by itself, and ends with `closed`. With `waits`, what is
    /// answered has the copies that it was promised.
    pub(super) fn start(
        connector: Arc<Connector>,
        first: Option<Connected>,
        waits: bool,
        closed: CancellationToken,
    ) -> Self {
        let (complaints, received) = mpsc::channel(16);
        let first = match first {
            Some(first) => up(first, waits, 0),
            None => {
                let none_yet = Complaint {
                    generation: 0,
                    suspect: false,
                    moved: None,
                };
                // There is room for it.
                complaints.try_send(none_yet).ok();
                State::Down("no connection to Redis yet".to_owned())
            }
        };
        let (publish, state) = watch::channel(first);
        let link = Self {
            state,
            complaints,
            connect_timeout: connector.connect_timeout(),
            response_timeout: connector.response_timeout(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = keep_connected(&connector, waits, publish, received) => {}
            }
        });
        link
    }

    /// Whether there is a connection now.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Runs a script.
    pub(super) async fn run(
        &self,
        script: &Script,
        cmd: &Cmd,
        repeat: Repeat,
    ) -> Result<Value, StoreError> {
        self.run_call(script, &Call::One(cmd), repeat).await
    }

    /// Runs plain commands and, as the last, a script, as one transaction. All of them are safe to
    /// repeat. Without the transaction Redis would carry out, and sync, what it has read so far,
    /// 16 KiB at a time.
    pub(super) async fn run_last(
        &self,
        script: &Script,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> Result<Value, StoreError> {
        let mut transaction = Pipeline::new();
        transaction.add_command(redis::cmd("MULTI"));
        for cmd in commands {
            transaction.add_command(cmd);
        }
        transaction.add_command(redis::cmd("EXEC"));
        self.run_call(script, &Call::Last(&transaction), Repeat::Safe)
            .await
    }

    async fn run_call(
        &self,
        script: &Script,
        call: &Call<'_>,
        repeat: Repeat,
    ) -> Result<Value, StoreError> {
        let give_up = Instant::now() + self.connect_timeout;
        // Whether an earlier try may have been carried out: then no refusal of a later one is the whole truth.
        let mut tried = false;
        let words = |tried, error: StoreError| match tried {
            true => error.after_a_try(),
            false => error,
        };
        loop {
            let up = self.connected(give_up).await;
            let up = up.map_err(|error| words(tried, error))?;
            match self.once(&up, script, call).await {
                Ok(value) => return Ok(value),
                Err(failure) => {
                    tried |= matches!(failure.error, StoreError::Unconfirmed(_));
                    let again = self.try_again(&up, failure, repeat, give_up).await;
                    again.map_err(|error| words(tried, error))?;
                }
            }
        }
    }

    /// Returns when the call may be tried again.
    async fn try_again(
        &self,
        up: &Up,
        failure: Failure,
        repeat: Repeat,
        give_up: Instant,
    ) -> Result<(), StoreError> {
        self.complain(up, &failure);
        if failure.broken {
            self.after(up.generation, give_up).await;
        }
        if !failure.again || repeat == Repeat::Never || Instant::now() >= give_up {
            return Err(failure.error);
        }
        if !failure.broken {
            sleep(BACKOFF.0).await;
        }
        Ok(())
    }

    /// Runs a plain command that is safe to repeat.
    pub(super) async fn query(&self, cmd: &Cmd) -> Result<Value, StoreError> {
        let give_up = Instant::now() + self.connect_timeout;
        loop {
            let up = self.connected(give_up).await?;
            match self.send(&up, &Call::One(cmd)).await {
                Ok(value) => return Ok(value),
                Err(failure) => self.try_again(&up, failure, Repeat::Safe, give_up).await?,
            }
        }
    }

    /// Runs plain commands that only read, in one round trip.
    pub(super) async fn query_all(&self, commands: &[Cmd]) -> Result<Vec<Value>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for cmd in commands {
            pipeline.add_command(cmd.clone());
        }
        let give_up = Instant::now() + self.connect_timeout;
        loop {
            let up = self.connected(give_up).await?;
            let mut connection = up.connection.clone();
            let values = connection.send_packed_commands(&pipeline, 0, commands.len());
            let values = self.in_time(values).await;
            match values.and_then(|values| values.into_iter().map(server_error).collect()) {
                Ok(values) => return Ok(values),
                Err(failure) => self.try_again(&up, failure, Repeat::Safe, give_up).await?,
            }
        }
    }

    fn complain(&self, up: &Up, failure: &Failure) {
        if failure.broken || failure.suspect {
            let complaint = Complaint {
                generation: up.generation,
                suspect: !failure.broken,
                moved: failure.moved.clone(),
            };
            // The task may have ended or have complaints enough; then this one is needless.
            self.complaints.try_send(complaint).ok();
        }
    }

    async fn once(&self, up: &Up, script: &Script, call: &Call<'_>) -> Result<Value, Failure> {
        let first = self.send(up, call).await;
        match first {
            Err(failure) if failure.unknown_script => {
                let mut connection = up.connection.clone();
                self.in_time(connection.send_packed_command(&script.load()))
                    .await
                    .and_then(server_error)?;
                self.send(up, call).await
            }
            other => other,
        }
    }

    async fn send(&self, up: &Up, call: &Call<'_>) -> Result<Value, Failure> {
        let mut connection = up.connection.clone();
        let followed;
        let commands = match (call, &up.wait) {
            (Call::One(cmd), None) => {
                return self
                    .in_time(connection.send_packed_command(cmd))
                    .await
                    .and_then(server_error);
            }
            (Call::Last(commands), None) => *commands,
            (Call::One(cmd), Some(wait)) => {
                followed = wait.follow([*cmd]);
                &followed
            }
            (Call::Last(commands), Some(wait)) => {
                followed = wait.follow(commands.cmd_iter());
                &followed
            }
        };
        let mut answers = self
            .in_time(connection.send_packed_commands(commands, 0, commands.len()))
            .await?;
        let mut pop = || answers.pop().unwrap_or(Value::Nil);
        let waited = up.wait.as_ref().map(|wait| (wait, pop(), pop()));
        let answer = pop();
        for before in answers {
            server_error(before)?;
        }
        let answer = match (call, server_error(answer)?) {
            (Call::Last(_), Value::Array(mut answers)) => {
                server_error(answers.pop().unwrap_or(Value::Nil))?
            }
            (_, answer) => answer,
        };
        match waited {
            None => Ok(answer),
            Some((wait, copies, barrier)) => {
                let told = |value| server_error(value).map_err(Failure::of_the_wait);
                if wait.is_enough(&told(barrier)?, &told(copies)?) {
                    Ok(answer)
                } else {
                    Err(Failure::too_few_copies())
                }
            }
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
    async fn connected(&self, give_up: Instant) -> Result<Arc<Up>, StoreError> {
        let mut state = self.state.clone();
        let reason = loop {
            let reason = match &*state.borrow_and_update() {
                State::Up(up) => return Ok(up.clone()),
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
        let changed =
            state.wait_for(|state| !matches!(state, State::Up(up) if up.generation == old));
        // Whatever comes of the wait, the caller's loop looks at the state itself.
        drop(tokio::time::timeout_at(give_up, changed).await);
    }
}

fn server_error(value: Value) -> Result<Value, Failure> {
    value.extract_error().map_err(|error| Failure::of(&error))
}

fn up(connected: Connected, waits: bool, generation: u64) -> State {
    State::Up(Arc::new(Up {
        connection: connected.connection,
        wait: connected.wait.filter(|_| waits),
        generation,
    }))
}

async fn keep_connected(
    connector: &Connector,
    waits: bool,
    publish: watch::Sender<State>,
    mut complaints: mpsc::Receiver<Complaint>,
) {
    let mut generation = 0;
    let mut last_asked: Option<Instant> = None;
    while let Some(complaint) = complaints.recv().await {
        if complaint.generation != generation {
            continue;
        }
        if complaint.suspect {
            if last_asked.is_some_and(|asked| asked.elapsed() < SUSPICION) {
                continue;
            }
            last_asked = Some(Instant::now());
            if !connector.is_elsewhere().await {
                continue;
            }
        }
        if let Some(told) = complaint.moved {
            connector.locator().moved(&told);
        }
        tracing::warn!(address = connector.address(), "connection to Redis lost");
        publish.send_replace(State::Down("no connection to Redis".to_owned()));
        let connected = connect_again(connector, &publish).await;
        generation += 1;
        tracing::info!(address = connector.address(), "connected to Redis again");
        publish.send_replace(up(connected, waits, generation));
    }
}

async fn connect_again(connector: &Connector, publish: &watch::Sender<State>) -> Connected {
    let mut wait = BACKOFF.0;
    loop {
        match connector.connect().await {
            Ok(connected) => return connected,
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::debug!(reason, "cannot connect to Redis");
                publish.send_replace(State::Down(reason));
            }
        }
        // Half of the wait is left to chance, so that many instances do not come at once.
        sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}
