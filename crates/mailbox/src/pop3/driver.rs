//! One connection: reads bytes, lets the session step, and does what it asks.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_tls::ServerCertificate;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::line::{Line, LineBuffer};
use super::session::{Action, Ending, Input, Limits, ListKind, Session};
use super::step::step;
use super::stream::Stream;
use crate::accounts::{AccountName, Verdict};
use crate::config::{Pop3Config, Pop3Role};
use crate::service::MailboxService;
use crate::store::{Entry, Locked, Maildrop, Part, WireEncoder};

/// Replies that are gathered before they are sent, so that a pipelined group costs one write.
const ENOUGH: usize = 16 * 1024;
/// Bytes of a message that are read at once; what a retrieval holds in memory is about twice this.
const CHUNK: usize = 64 * 1024;
/// Longest wait before a wrong password is answered, however many there were.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Wait for a connection to close in good order.
const FAREWELL: Duration = Duration::from_secs(5);
/// The first byte of a TLS handshake, on a port that does not begin with one.
const TLS_HANDSHAKE: u8 = 0x16;

/// What all connections share.
pub(super) struct Shared {
    pub(super) service: Arc<MailboxService>,
    pub(super) certificate: Arc<ServerCertificate>,
    pub(super) hostname: String,
}

/// One connection and its session.
pub(super) struct Connection {
    shared: Arc<Shared>,
    config: Arc<Pop3Config>,
    client: IpAddr,
    stream: Stream,
    input: LineBuffer,
    out: Vec<u8>,
    session: Session,
    maildrop: Option<Arc<Maildrop>>,
    account: Option<AccountName>,
    retrieved: u32,
    deleted: usize,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Arc<Pop3Config>,
        client: IpAddr,
        stream: TcpStream,
    ) -> Self {
        Self {
            shared,
            config,
            client,
            stream: Stream::Plain(stream),
            input: LineBuffer::default(),
            out: Vec::new(),
            session: Session::closed(),
            maildrop: None,
            account: None,
            retrieved: 0,
            deleted: 0,
        }
    }

    /// Serves the client until either side has had enough.
    pub(super) async fn serve(mut self, role: Pop3Role, stop: &CancellationToken) {
        self.shared.service.metrics.session_began();
        let ending = match self.begin(role).await {
            Ok(()) => self.converse(stop).await,
            Err(ending) => ending,
        };
        // The next session need not wait until this client has taken its leave.
        self.maildrop = None;
        let listens = !matches!(ending, Ending::Lost | Ending::TlsFailed);
        if listens && self.flush().await.is_ok() {
            self.stream.close(FAREWELL).await;
        }
        self.shared.service.metrics.session_ended(ending.label());
        let (client, outcome) = (self.client, ending.label());
        match &self.account {
            Some(account) => {
                let (retrieved, deleted) = (self.retrieved, self.deleted);
                info!(%account, %client, outcome, retrieved, deleted, "POP3 session ended");
            }
            None => debug!(%client, outcome, "POP3 session ended"),
        }
    }

    /// Up to the greeting.
    async fn begin(&mut self, role: Pop3Role) -> Result<(), Ending> {
        if role == Pop3Role::Pop3s {
            self.secure().await?;
        }
        let limits = Limits {
            auth_failures: self.config.auth_failures.get(),
            bad_commands: self.config.bad_commands.get(),
        };
        let tls = role == Pop3Role::Pop3s;
        self.session = Session::greet(tls, limits, &self.shared.hostname, &mut self.out);
        Ok(())
    }

    async fn converse(&mut self, stop: &CancellationToken) -> Ending {
        loop {
            match self.answer().await {
                Ok(()) => {}
                Err(ending) => return ending,
            }
            if self.flush().await.is_err() {
                return Ending::Lost;
            }
            if self.input.pending().first() == Some(&TLS_HANDSHAKE) {
                self.out
                    .extend_from_slice(b"-ERR This port begins in plain text: use STLS\r\n");
                return Ending::Errors;
            }
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => Input::Stopping,
                read = timeout(self.patience(), self.stream.read(self.input.space())) => match read {
                    Ok(Ok(0) | Err(_)) => return Ending::Lost,
                    Ok(Ok(_)) => continue,
                    Err(_) => Input::TimedOut,
                },
            };
            if let Some(Action::Close(ending)) = self.feed(input) {
                return ending;
            }
        }
    }

    /// How long the client may be silent.
    fn patience(&self) -> Duration {
        match self.session.is_logged_in() {
            true => self.config.idle_timeout.0,
            false => self.config.login_timeout.0,
        }
    }

    /// Answers every command that has come in whole.
    async fn answer(&mut self) -> Result<(), Ending> {
        while self.session.wants_line() {
            let input = match self.input.next_line() {
                None => break,
                Some(Line::Whole(line)) => Input::Line(line),
                Some(Line::TooLong) => Input::LineTooLong,
            };
            // Not `feed`, because the line is still in the input buffer.
            let action = advance(&mut self.session, input, &mut self.out, &self.shared);
            if let Some(action) = action {
                Box::pin(self.carry_out(action)).await?;
            }
            if self.out.len() >= ENOUGH {
                self.flush().await?;
            }
        }
        Ok(())
    }

    fn feed(&mut self, input: Input<'_>) -> Option<Action> {
        advance(&mut self.session, input, &mut self.out, &self.shared)
    }

    /// Does what the session asks, and what it asks next, until it wants a line again.
    async fn carry_out(&mut self, action: Action) -> Result<(), Ending> {
        let mut next = Some(action);
        while let Some(action) = next.take() {
            let input = match action {
                Action::Close(ending) => return Err(ending),
                Action::List(kind) => {
                    self.list(kind).await?;
                    return Ok(());
                }
                Action::StartTls => {
                    self.flush().await?;
                    self.input.clear();
                    self.secure().await?;
                    Input::Secured
                }
                Action::Check {
                    login,
                    password,
                    failures,
                } => self.check(login, password, failures).await?,
                Action::Open(account) => self.open(account).await,
                Action::Send(entry, part) => self.send(entry, part).await?,
                Action::Update { deleted, retrieved } => self.update(deleted, retrieved).await,
            };
            next = self.feed(input);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ending> {
        if self.out.is_empty() {
            return Ok(());
        }
        // The buffer goes, so that an idle connection has none.
        let out = std::mem::take(&mut self.out);
        let sent = self.stream.write(&out, self.config.write_timeout.0).await;
        sent.map_err(|_| Ending::Lost)
    }

    async fn secure(&mut self) -> Result<(), Ending> {
        let config = self.shared.certificate.server_config();
        let secured = self.stream.secure(config, self.config.login_timeout.0);
        Box::pin(secured).await.map_err(|error| {
            debug!(client = %self.client, %error, "TLS handshake failed");
            Ending::TlsFailed
        })
    }

    async fn check(
        &mut self,
        login: String,
        password: zeroize::Zeroizing<String>,
        failures: u32,
    ) -> Result<Input<'static>, Ending> {
        let client = self.client.to_string();
        let service = &self.shared.service;
        match service.check_password(&login, password, &client).await {
            (Verdict::Granted, Some(account)) => Ok(Input::Granted(account)),
            (Verdict::Busy, _) => Ok(Input::Busy),
            _ => {
                self.flush().await?;
                let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
                let delay = self.config.auth_failure_delay.0.saturating_mul(factor);
                tokio::time::sleep(delay.min(MAX_DELAY)).await;
                Ok(Input::Denied)
            }
        }
    }

    async fn open(&mut self, account: AccountName) -> Input<'static> {
        let store = self.shared.service.store.clone();
        let limit = self.config.messages.get() as usize;
        let name = account.clone();
        let opened = blocking(move || store.open_maildrop(&name, limit)).await;
        match opened {
            Ok(Locked::Opened(maildrop, messages)) => {
                self.maildrop = Some(Arc::new(maildrop));
                self.account = Some(account);
                Input::Opened(messages)
            }
            Ok(Locked::InUse) => Input::InUse,
            Err(error) => {
                warn!(%account, %error, "cannot open a maildrop");
                Input::OpenFailed
            }
        }
    }

    async fn list(&mut self, kind: ListKind) -> Result<(), Ending> {
        let mut from = Some(0);
        while let Some(index) = from {
            from = self.session.listing(kind, index, ENOUGH, &mut self.out);
            if from.is_some() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, entry: Entry, part: Part) -> Result<Input<'static>, Ending> {
        let Some(maildrop) = self.maildrop.clone() else {
            return Ok(Input::NotFound);
        };
        let begun = blocking(move || {
            let file = maildrop.read(&entry)?;
            Transfer {
                file,
                encoder: WireEncoder::new(part),
            }
            .go_on(entry.size())
        });
        let mut progress = match begun.await {
            Ok(progress) => progress,
            Err(error) => {
                let account = self.account.as_ref().map(ToString::to_string);
                warn!(account, %error, "cannot read a message");
                return Ok(Input::NotFound);
            }
        };
        self.feed(Input::Found);
        loop {
            let (chunk, rest) = progress;
            self.out.extend_from_slice(&chunk);
            drop(chunk);
            let Some(transfer) = rest else { break };
            self.flush().await?;
            // A response that has begun cannot be taken back: all that is left is to hang up.
            progress = blocking(move || transfer.go_on(CHUNK as u64))
                .await
                .map_err(|error| {
                    warn!(%error, "reading a message failed half-way");
                    Ending::Lost
                })?;
        }
        if part == Part::Whole {
            self.retrieved += 1;
            self.shared.service.metrics.retrieved();
        }
        Ok(Input::Sent)
    }

    async fn update(&mut self, deleted: Vec<Entry>, retrieved: Vec<Entry>) -> Input<'static> {
        let Some(maildrop) = self.maildrop.take() else {
            return Input::Updated(0);
        };
        if deleted.is_empty() && retrieved.is_empty() {
            return Input::Updated(0);
        }
        let store = self.shared.service.store.clone();
        let count = deleted.len();
        let updated = blocking(move || Ok(store.update(&maildrop, &deleted, &retrieved))).await;
        let failed = updated.unwrap_or(count);
        self.deleted = count.saturating_sub(failed);
        self.shared.service.metrics.deleted(self.deleted);
        Input::Updated(failed)
    }
}

/// Steps, and counts the reply.
fn advance(
    session: &mut Session,
    input: Input<'_>,
    out: &mut Vec<u8>,
    shared: &Shared,
) -> Option<Action> {
    let from = out.len();
    let taken = std::mem::replace(session, Session::closed());
    let (next, action) = step(taken, input, out);
    *session = next;
    match out.get(from) {
        Some(b'+') => shared.service.metrics.command(true),
        Some(b'-') => shared.service.metrics.command(false),
        _ => {}
    }
    action
}

/// A message that is being sent.
struct Transfer {
    file: File,
    encoder: WireEncoder,
}

impl Transfer {
    /// Reads the next piece (about `expected` octets, if that is less than a chunk) and encodes
    /// it. Gives itself back if there is more to come.
    fn go_on(mut self, expected: u64) -> io::Result<(Vec<u8>, Option<Self>)> {
        // One more than expected shows the end without a second read.
        let size = usize::try_from(expected)
            .unwrap_or(CHUNK)
            .saturating_add(1)
            .clamp(1_024, CHUNK);
        let mut bytes = vec![0; size];
        let mut out = Vec::new();
        loop {
            match self.file.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => {
                    if !self.encoder.feed(&bytes[..read], &mut out) {
                        break;
                    }
                    if out.len() >= CHUNK {
                        return Ok((out, Some(self)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.encoder.finish(&mut out);
        Ok((out, None))
    }
}

/// Runs what blocks on a thread made for it.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(run)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("panicked")))
}
