//! Drives one session: reads octets, feeds the session, obeys it.
//!
//! One task a connection. Buffers exist while they are used: a connection that waits for its
//! next command holds the session's state, the outline of its dialogue, and nothing else.

use std::time::{Duration, SystemTime};

use bytes::{Buf as _, BytesMut};
use postrider_smtp::datetime::DateTime;
use postrider_smtp::output::Output;
use postrider_smtp::server::{Event, Session, Transport, Wait};
use tokio::time::Instant;

use crate::clerk::Clerk;
use crate::connection::{Connection, Read};
use crate::entrance;
use crate::transaction::unix_us;

/// A reply buffer of this capacity may stay while a connection is idle: most replies fit, and
/// none is made anew for each.
const KEPT: usize = 512;

/// One session with its socket.
pub(crate) struct Driver {
    session: Session,
    output: Output,
    /// Octets that the session has not consumed.
    input: BytesMut,
    clerk: Clerk,
    connection: Connection,
    opened: Instant,
    /// When the session last came upon something: the wait for a whole command began then.
    progress: Instant,
    /// When octets arrived last.
    arrived: Instant,
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
    /// A session on a connection that was admitted; under implicit TLS after the handshake.
    pub(crate) fn new(clerk: Clerk, connection: Connection) -> Self {
        let transport = match connection.tls_version() {
            Some(_) => Transport::Tls,
            None => Transport::Plain,
        };
        let config = clerk.settings.session(clerk.client.role);
        let now = Instant::now();
        let mut driver = Self {
            session: Session::new(config, transport),
            output: Output::with_outline(),
            input: BytesMut::new(),
            clerk,
            connection,
            opened: now,
            progress: now,
            arrived: now,
            draining: false,
        };
        driver.note_tls();
        driver
    }

    /// Drives the session to its end, and closes the connection.
    pub(crate) async fn drive(mut self) {
        let worth_a_farewell = loop {
            match self.step().await {
                Next::Go => {}
                Next::Close => break self.flush().await,
                Next::Drop => break false,
            }
        };
        self.clerk.abandon();
        if worth_a_farewell {
            self.connection.close().await;
        }
    }

    /// Carries out what the session comes upon next.
    async fn step(&mut self) -> Next {
        // A client that pipelines may never let its session come to rest.
        if !self.input.is_empty() && self.is_to_leave() {
            return self.say_goodbye();
        }
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
                self.progress = Instant::now();
                return Next::Go;
            }
            Event::Ask(question) => {
                // Whoever is asked may take his time.
                self.output
                    .outline
                    .stamp(micros(self.arrived - self.opened));
                let ahead = &self.input[consumed..];
                let answer = self
                    .clerk
                    .answer(question, ahead, &mut self.output.outline)
                    .await;
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
            if self.is_to_leave() {
                return self.say_goodbye();
            }
        } else if self.clerk.shared.stop.has_drained() {
            return self.say_goodbye();
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let deadline = self.deadline();
        match self.connection.read(&mut self.input, deadline).await {
            Read::Data => {
                self.arrived = Instant::now();
                if self.clerk.client.role.is_submission() {
                    self.session
                        .tell_time(DateTime(unix_us(SystemTime::now()) / 1_000_000));
                }
                Next::Go
            }
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

    /// Whether the server stops, and the session is between transactions.
    fn is_to_leave(&self) -> bool {
        !self.session.is_busy() && (self.draining || self.clerk.shared.stop.has_begun())
    }

    /// The server stops, and nothing is left to finish or no time for it (RFC 5321 section 3.8).
    fn say_goodbye(&mut self) -> Next {
        self.session.shut_down(&mut self.output);
        Next::Close
    }

    /// The client has asked for TLS, and the session has agreed.
    async fn start_tls(&mut self) -> Next {
        if !self.flush().await {
            return Next::Drop;
        }
        // Whatever came in clear behind the command could be anybody's (RFC 3207 section 6).
        self.input = BytesMut::new();
        let established = Box::pin(entrance::handshake(
            &self.clerk.shared,
            &self.clerk.settings,
            &self.clerk.client,
            &mut self.connection,
        ))
        .await;
        if !established {
            return Next::Drop;
        }
        self.note_tls();
        self.progress = Instant::now();
        self.session.tls_established();
        Next::Go
    }

    /// The connection may be under TLS now.
    fn note_tls(&mut self) {
        if let Some(version) = self.connection.tls_version() {
            self.clerk.tls_established(version);
            self.output.outline.note(&format!("{version} established"));
            self.output.outline.stamp(micros(self.opened.elapsed()));
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
