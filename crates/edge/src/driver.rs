//! Drives one session: reads octets, feeds the session, obeys it.
//!
//! One task a connection. Buffers exist while they are used: a connection that waits for its
//! next command holds the session's state, the outline of its dialogue, and nothing else.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use postrider_smtp::output::Output;
use postrider_smtp::reply::Reply;
use postrider_smtp::server::{Event, Session, Transport, Wait};
use postrider_smtp::status::EnhancedStatus;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::admission::Ticket;
use crate::clerk::Clerk;
use crate::config::Role;
use crate::connection::{Connection, HandshakeError, Read};
use crate::edge::Shared;
use crate::policy::{Client, ConnectFacts};
use crate::settings::Settings;

/// A reply buffer of this capacity may stay while a connection is idle: most replies fit, and
/// none is made anew for each.
const KEPT: usize = 512;
/// Serves one connection from its greeting to its end.
pub(crate) async fn run(shared: Arc<Shared>, role: Role, stream: TcpStream, peer: IpAddr) {
    let settings = shared.settings();
    let trusted = settings
        .config
        .trusted_networks
        .iter()
        .any(|network| network.contains(&peer));
    let client = Client::new(peer, role, trusted);
    let ticket = shared.admission.enter(peer);
    let mut connection = Connection::new(stream, shared.stop.clone());
    shared.metrics(role).opened();
    if admit(&settings, &client, &ticket, &mut connection).await {
        debug!(client = %peer, %role, "connected");
        // Boxed: what a refused connection never needs.
        Box::pin(converse(Arc::clone(&shared), settings, client, connection)).await;
        debug!(client = %peer, %role, "closed");
    }
    shared.metrics(role).closed();
}

/// Asks policy whether the client may connect. One that may not is told so and closed at once,
/// whatever it does: a flood must not be paid for with waiting tasks.
async fn admit(
    settings: &Settings,
    client: &Client,
    ticket: &Ticket,
    connection: &mut Connection,
) -> bool {
    let facts = ConnectFacts {
        client,
        connections: ticket.connections,
        connections_of_client: ticket.connections_of_client,
    };
    let Err(refusal) = settings.chain.connect(&facts) else {
        return true;
    };
    info!(
        client = %client.address,
        role = %client.role,
        reason = refusal.reason,
        reply = %refusal.reply,
        "connection refused"
    );
    // Under implicit TLS the reply would cost a handshake.
    if !client.role.is_implicit_tls() {
        let mut octets = Vec::new();
        refusal.reply.write_to(&mut octets);
        connection.write(&octets, Duration::ZERO).await;
    }
    false
}

async fn converse(
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    client: Client,
    mut connection: Connection,
) {
    let role = client.role;
    let mut transport = Transport::Plain;
    if role.is_implicit_tls() {
        if !handshake(&shared, &settings, &client, &mut connection).await {
            return;
        }
        transport = Transport::Tls;
    }
    let mut clerk = Clerk::new(shared, Arc::clone(&settings), client);
    let mut output = Output::with_outline();
    if let Some(version) = connection.tls_version() {
        clerk.tls_established(version);
        output.outline.note(&format!("{version} established"));
    }
    let now = Instant::now();
    let mut driver = Driver {
        session: Session::new(settings.session(role), transport),
        output,
        input: BytesMut::new(),
        clerk,
        connection,
        opened: now,
        progress: now,
        draining: false,
    };
    let linger = driver.drive().await;
    driver.clerk.abandon();
    if linger {
        driver.connection.close().await;
    }
}

async fn handshake(
    shared: &Shared,
    settings: &Settings,
    client: &Client,
    connection: &mut Connection,
) -> bool {
    let config = shared.certificate.server_config();
    let wait = settings.config.timeouts.tls_handshake.0;
    let (outcome, done) = match connection.start_tls(config, wait).await {
        Ok(()) => ("established", true),
        Err(HandshakeError::Failed(error)) => {
            debug!(client = %client.address, %error, "TLS handshake failed");
            ("failed", false)
        }
        Err(HandshakeError::TimedOut) => {
            debug!(client = %client.address, "TLS handshake took too long");
            ("timeout", false)
        }
    };
    shared.metrics(client.role).handshake(outcome);
    done
}

/// One session with its socket.
struct Driver {
    session: Session,
    output: Output,
    /// Octets that the session has not consumed.
    input: BytesMut,
    clerk: Clerk,
    connection: Connection,
    opened: Instant,
    /// When the session last came upon something: the wait for a whole command began then.
    progress: Instant,
    /// The stop has begun, and this session may finish its transaction.
    draining: bool,
}

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    /// The connection is closed with regard to what was said last.
    Close,
    /// There is nobody to say anything to.
    Drop,
}

impl Driver {
    /// Drives the session to its end. Returns whether the connection is still worth a clean end.
    async fn drive(&mut self) -> bool {
        loop {
            match self.step().await {
                Next::Go => {}
                Next::Close => return self.flush().await,
                Next::Drop => return false,
            }
        }
    }

    /// Carries out what the session comes upon next.
    async fn step(&mut self) -> Next {
        let (consumed, event) = self.session.receive(&self.input, &mut self.output);
        match event {
            Event::NeedMore => {
                self.input.advance(consumed);
                return self.read_on().await;
            }
            Event::Content(piece) => {
                self.clerk.piece(piece, &mut self.output.outline);
                self.input.advance(consumed);
                if self.clerk.is_full() {
                    self.clerk.flow().await;
                }
                return Next::Go;
            }
            Event::Ask(question) => {
                let at = self.opened.elapsed();
                self.output.outline.stamp(micros(at));
                let answer = self.clerk.answer(question, &mut self.output.outline).await;
                self.session.answer(answer, &mut self.output);
            }
            // Every question is answered at once, so none can be open.
            Event::AnswerDue => return Next::Drop,
            Event::ContentDropped(why) => self.clerk.drop_content(why),
            Event::StartTls => return self.start_tls().await,
            Event::Close => return Next::Close,
        }
        self.input.advance(consumed);
        self.progress = Instant::now();
        self.output
            .outline
            .stamp(micros(self.progress - self.opened));
        Next::Go
    }

    /// The session has done what it can: writes the replies in one go, and waits for more.
    async fn read_on(&mut self) -> Next {
        self.output.outline.stamp(micros(self.opened.elapsed()));
        if !self.flush().await {
            return Next::Drop;
        }
        if !self.session.is_busy() {
            self.clerk.abandon();
            if self.draining || self.clerk.shared.stop.has_begun() {
                return self.say_goodbye();
            }
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let deadline = self.deadline();
        match self.connection.read(&mut self.input, deadline).await {
            Read::Data => Next::Go,
            Read::Closed => Next::Drop,
            Read::TimedOut => {
                self.session.time_out(&mut self.output);
                Next::Close
            }
            Read::Stopping if self.session.is_busy() && !self.draining => {
                self.draining = true;
                self.connection.go_on_until_drained();
                Next::Go
            }
            Read::Stopping => self.say_goodbye(),
        }
    }

    /// When the present wait has been too long. A command that trickles in does not prolong it.
    fn deadline(&self) -> Instant {
        let timeouts = &self.clerk.settings.config.timeouts;
        if self.session.wait() != Wait::Content {
            return self.progress + timeouts.command.0;
        }
        let pause = Instant::now() + timeouts.content.0;
        match self.clerk.content_began() {
            Some(began) => pause.min(began + timeouts.message.0),
            None => pause,
        }
    }

    /// Writes what there is to say. Returns whether it went out.
    async fn flush(&mut self) -> bool {
        if self.output.bytes.is_empty() {
            return true;
        }
        let wait = self.clerk.settings.config.timeouts.reply.0;
        let written = self.connection.write(&self.output.bytes, wait).await;
        self.output.bytes.clear();
        if self.output.bytes.capacity() > KEPT {
            self.output.bytes = Vec::new();
        }
        written
    }

    /// The server stops, and nothing is left to finish or no time for it (RFC 5321 section 3.8).
    fn say_goodbye(&mut self) -> Next {
        Reply::new(
            421,
            EnhancedStatus::transient(3, 2),
            "This server is going down, try again later",
        )
        .write_to(&mut self.output.bytes);
        Next::Close
    }

    /// The client has asked for TLS, and the session has agreed.
    async fn start_tls(&mut self) -> Next {
        if !self.flush().await {
            return Next::Drop;
        }
        // Whatever came in clear behind the command could be anybody's (RFC 3207 section 6).
        self.input = BytesMut::new();
        let established = Box::pin(handshake(
            &self.clerk.shared,
            &self.clerk.settings,
            &self.clerk.client,
            &mut self.connection,
        ))
        .await;
        let Some(version) = self.connection.tls_version().filter(|_| established) else {
            return Next::Drop;
        };
        self.clerk.tls_established(version);
        self.output.outline.note(&format!("{version} established"));
        self.progress = Instant::now();
        self.output
            .outline
            .stamp(micros(self.progress - self.opened));
        self.session.tls_established(&mut self.output);
        Next::Go
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
