//! One SMTP connection: the socket that a client session speaks over.
//!
//! The session decides what is said; this driver moves bytes, keeps the deadlines of each phase
//! and records the dialogue with its times. [`open`] makes connections, [`transact`] sends.

mod open;
mod stream;
mod transact;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use postrider_protocol::queue_v1::{DialogueLine, dialogue_line::From};
use postrider_smtp::client::{Event, Phase, Session};
use postrider_smtp::extension::Extensions;
use postrider_smtp::outline::Speaker;
use postrider_smtp::output::Output;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Timeouts;
use crate::cutoff::Cutoff;
use crate::metrics;

pub(crate) use open::{Opener, Target};
pub(crate) use stream::Stream;
pub(crate) use transact::Content;

/// Why a connection ends whose attempt is broken off.
pub(crate) const CUT: &str = "this worker stops";

/// Read at once; replies are short.
const READ: usize = 4 * 1024;

/// A connection to a mail server.
pub(crate) struct Connection {
    stream: Stream,
    session: Session,
    input: BytesMut,
    output: Output,
    timeouts: Timeouts,
    opened: Instant,
    /// Of the reply that is awaited.
    deadline: Option<Instant>,
    /// The server's name as DNS or the configuration has it.
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
    /// "TLSv1.3"; empty on a plain connection.
    pub(crate) tls: &'static str,
    /// Transactions begun.
    pub(crate) transactions: u32,
    broken: bool,
    cutoff: Cutoff,
}

/// Why the output was not written to its end.
struct Unwritten {
    why: String,
    /// The server takes nothing more, and need not be asked for its last words.
    silent: bool,
}

impl Connection {
    fn new(
        stream: Stream,
        session: Session,
        target: &Target,
        timeouts: Timeouts,
        cutoff: Cutoff,
    ) -> Self {
        metrics::handles().open.increment(1.0);
        Self {
            stream,
            session,
            input: BytesMut::new(),
            output: Output::with_outline(),
            timeouts,
            opened: Instant::now(),
            deadline: None,
            host: target.host.clone(),
            address: target.address,
            tls: "",
            transactions: 0,
            broken: false,
            cutoff,
        }
    }

    /// Whether the server takes the duty to send DSNs over.
    pub(crate) fn takes_dsn_duty(&self) -> bool {
        self.session.offer().has(Extensions::DSN)
    }

    /// Whether it can carry another transaction, as far as can be said without asking.
    pub(crate) fn is_usable(&self) -> bool {
        !self.broken
    }

    /// Adds a note to the dialogue.
    pub(crate) fn note(&mut self, text: &str) {
        self.output.outline.note(text);
        self.stamp();
    }

    /// The dialogue since the last call.
    pub(crate) fn take_dialogue(&mut self, into: &mut Vec<DialogueLine>) {
        into.reserve(self.output.outline.len());
        into.extend(self.output.outline.lines().map(|line| {
            DialogueLine {
                from: match line.speaker {
                    Speaker::Client => From::Client,
                    Speaker::Server => From::Server,
                    Speaker::Note => From::Note,
                }
                .into(),
                text: line.text.to_owned(),
                at_us: line.at_us,
            }
        }));
        self.output.outline.clear();
    }

    /// The session's next event: writes and reads as long as the session has none.
    async fn event(&mut self) -> Event {
        loop {
            let replies = self.session.replies();
            let (consumed, event) = self.session.receive(&self.input, &mut self.output);
            self.input.advance(consumed);
            self.stamp();
            if self.session.replies() > replies || !self.output.bytes.is_empty() {
                self.deadline = None;
            }
            match event {
                Event::NeedMore => {
                    if let Err(why) = self.exchange().await {
                        self.output.outline.note(&why);
                        self.session.connection_lost(why);
                    }
                }
                Event::Closed => {
                    self.broken = true;
                    return event;
                }
                event => return event,
            }
        }
    }

    /// Writes what the session has said, then reads what the server answers.
    async fn exchange(&mut self) -> Result<(), String> {
        let phase = self.session.phase();
        let wait = self.wait(phase);
        if let Err(lost) = self.flush(wait).await
            && lost.silent
        {
            return Err(lost.why);
        }
        if self.input.capacity() - self.input.len() < READ / 4 {
            self.input.reserve(READ);
        }
        // For the whole reply: a server that sends it octet by octet, or line by line, gains no time.
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + wait);
        let read = timeout_at(deadline, self.stream.read_buf(&mut self.input));
        let Some(read) = self.cutoff.or(read).await else {
            return Err(CUT.to_owned());
        };
        match read {
            Ok(Ok(0)) => Err(format!(
                "connection closed while waiting for {}",
                words(phase)
            )),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!(
                "connection lost while waiting for {}: {error}",
                words(phase)
            )),
            Err(_) => Err(format!("timed out while waiting for {}", words(phase))),
        }
    }

    /// Writes the output, in one piece. If that fails, the output is gone: the session knows, and the
    /// server may have said why before it closed.
    async fn flush(&mut self, wait: Duration) -> Result<(), Unwritten> {
        if self.output.bytes.is_empty() {
            return Ok(());
        }
        let mut written = false;
        let write = async {
            self.stream.write_all(&self.output.bytes).await?;
            written = true;
            self.stream.flush().await
        };
        let write = self.cutoff.or(timeout(wait, write)).await;
        let lost = match write {
            Some(Ok(Ok(()))) => {
                self.output.bytes.clear();
                return Ok(());
            }
            Some(Ok(Err(error))) => Unwritten {
                why: format!("connection lost: {error}"),
                silent: false,
            },
            Some(Err(_)) => Unwritten {
                why: "timed out while sending".to_owned(),
                silent: true,
            },
            None => Unwritten {
                why: CUT.to_owned(),
                silent: true,
            },
        };
        self.output.bytes.clear();
        // What TLS has taken may be on its way although it was not flushed.
        if !written {
            self.session.output_lost();
        }
        Err(lost)
    }

    /// Brings the session to where a transaction may begin. False if it never will.
    pub(crate) async fn ready(&mut self) -> bool {
        loop {
            match self.event().await {
                Event::Ready => return true,
                Event::Closed | Event::Failed(_) => {
                    self.broken = true;
                    return false;
                }
                // Not between transactions.
                Event::NeedMore | Event::StartTls | Event::SendContent | Event::Finished(_) => {
                    self.session.connection_lost("out of step");
                }
            }
        }
    }

    /// Learns, without waiting, whether the session has come to its end.
    fn look_ahead(&mut self) {
        let (consumed, event) = self.session.receive(&self.input, &mut self.output);
        self.input.advance(consumed);
        self.broken |= !matches!(event, Event::Ready | Event::NeedMore);
    }

    /// Waits, between transactions, until the connection is not good any more: the server
    /// closes it, or says something that nobody asked for (421). Cancel safe.
    pub(crate) async fn lost(&mut self) {
        // An idle connection holds no buffers.
        self.output.bytes = Vec::new();
        self.input = BytesMut::new();
        let mut byte = [0];
        // Whatever it is, it is the end: nothing may come here.
        let _ended = self.stream.read(&mut byte).await;
        self.broken = true;
    }

    /// Says QUIT and waits a moment for the reply.
    pub(crate) async fn quit(mut self) {
        if self.broken {
            return;
        }
        self.session.quit(&mut self.output);
        let wait = self.timeouts.quit.0;
        let goodbye = async { while !matches!(self.event().await, Event::Closed) {} };
        // Nothing depends on the reply.
        let _replied = timeout(wait, goodbye).await;
        let _closed = timeout(wait, self.stream.shutdown()).await;
    }

    fn stamp(&mut self) {
        let since = self.opened.elapsed().as_micros();
        self.output
            .outline
            .stamp(u64::try_from(since).unwrap_or(u64::MAX));
    }

    /// How long the other side may take in a phase.
    fn wait(&self, phase: Phase) -> Duration {
        let timeouts = &self.timeouts;
        match phase {
            Phase::Greeting => timeouts.greeting,
            Phase::Ehlo | Phase::StartTls | Phase::Auth => timeouts.hello,
            Phase::TlsHandshake => timeouts.tls,
            Phase::Mail => timeouts.mail,
            Phase::Rcpt => timeouts.rcpt,
            Phase::DataInitiation => timeouts.data,
            Phase::DataBlock => timeouts.block,
            Phase::DataTermination => timeouts.end_of_data,
            Phase::Idle | Phase::Rset | Phase::Quit => timeouts.quit,
        }
        .0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        metrics::handles().open.decrement(1.0);
    }
}

/// What was awaited, in words.
fn words(phase: Phase) -> String {
    match phase {
        Phase::Greeting => "the greeting".to_owned(),
        phase => format!("the reply to {}", phase.name()),
    }
}
