//! Where the load ends: one SMTP server for each destination, which records what it took from whom,
//! counts connections, and has moods.
//!
//! What it does with a recipient follows from the local part: `fail…` is refused for good, `later…`
//! is put off the first time it is seen with a message, everything else is taken.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::history::{Arrival, Crowd};
use super::kernel;
use super::parse;

/// What a sink does instead of its duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// Nothing: it does its duty.
    Good = 0,
    /// 421 to every connection.
    Busy = 1,
    /// Takes a content and cuts the connection where the answer is due.
    Silent = 2,
    /// Cuts the connection before the content is complete.
    Rude = 3,
    /// Answers the final dot after a second.
    Slow = 4,
    /// 451 to every recipient.
    Full = 5,
}

/// Moods that a plan may choose from.
pub const MOODS: [Mood; 5] = [Mood::Busy, Mood::Silent, Mood::Rude, Mood::Slow, Mood::Full];

/// How long [`Mood::Slow`] takes.
const SLOW: Duration = Duration::from_secs(1);

/// All sinks of a run.
#[derive(Debug)]
pub struct Sinks {
    /// A domain each, with the address of its server.
    pub domains: Vec<(String, SocketAddr)>,
    moods: Vec<Arc<AtomicU8>>,
    record: Arc<Record>,
    tasks: Vec<JoinHandle<()>>,
}

/// What they have seen.
#[derive(Debug)]
struct Record {
    started: Instant,
    slots: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    crowds: Vec<Crowded>,
    /// Connections that were taken and whose sessions are not over, with the sink's port and the client's.
    taken: HashMap<u64, (u16, u16)>,
    /// Who is at the other end of a connection.
    names: HashMap<u64, String>,
    /// What `later…` was put off: queue ids are not known before the content, so by address.
    put_off: HashSet<String>,
    connections: u64,
}

/// A crowd before its workers have names.
#[derive(Debug)]
struct Crowded {
    at: Duration,
    domain: String,
    /// Connections, by number.
    clients: Vec<u64>,
}

impl Record {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sinks {
    /// Starts a server for each domain; `slots` is what more than that is a crowd.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(
        domains: &[String],
        slots: usize,
        started: Instant,
    ) -> std::io::Result<Self> {
        let record = Arc::new(Record {
            started,
            slots,
            seen: Mutex::default(),
        });
        let mut sinks = Self {
            domains: Vec::new(),
            moods: Vec::new(),
            record: record.clone(),
            tasks: Vec::new(),
        };
        for domain in domains {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let mood = Arc::new(AtomicU8::new(Mood::Good as u8));
            sinks.domains.push((domain.clone(), listener.local_addr()?));
            sinks.moods.push(mood.clone());
            let server = Server {
                domain: domain.clone(),
                mood,
                record: record.clone(),
            };
            sinks.tasks.push(tokio::spawn(server.serve(listener)));
        }
        Ok(sinks)
    }

    /// Puts a sink into a mood.
    pub fn set_mood(&self, sink: usize, mood: Mood) {
        self.moods[sink].store(mood as u8, Ordering::Relaxed);
    }

    /// What arrived so far, and the crowds.
    #[must_use]
    pub fn recorded(&self) -> (Vec<Arrival>, Vec<Crowd>, u64) {
        let seen = self.record.seen();
        let name = |client| seen.names.get(client).cloned().unwrap_or_default();
        let crowds = seen
            .crowds
            .iter()
            .map(|crowd| Crowd {
                at: crowd.at,
                destination: format!("smtp:{}", crowd.domain),
                workers: crowd.clients.iter().map(name).collect(),
            })
            .collect();
        (seen.arrivals.clone(), crowds, seen.connections)
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Debug, Clone)]
struct Server {
    domain: String,
    mood: Arc<AtomicU8>,
    record: Arc<Record>,
}

/// A transaction under way.
#[derive(Debug, Default)]
struct Transaction {
    recipients: Vec<String>,
}

impl Server {
    async fn serve(self, listener: TcpListener) {
        let Ok(address) = listener.local_addr() else {
            return;
        };
        while let Ok((stream, peer)) = listener.accept().await {
            let number = self.count((address.port(), peer.port()));
            let server = self.clone();
            tokio::spawn(async move {
                // A client that goes away ends its session and nothing else.
                server.session(stream, number).await.ok();
                server.record.seen().taken.remove(&number);
            });
        }
    }

    /// Takes a connection into account, and gives its number.
    ///
    /// One that was closed by its client may not have been read to its end here, so where there are too
    /// many, the kernel is asked which of those are open at both ends. They were taken before it was
    /// asked: those of which it says so were open together, at this moment.
    fn count(&self, ports: (u16, u16)) -> u64 {
        let (number, taken) = {
            let mut seen = self.record.seen();
            seen.connections += 1;
            let number = seen.connections;
            seen.taken.insert(number, ports);
            let here = seen.taken.iter().filter(|(_, taken)| taken.0 == ports.0);
            let taken: Vec<(u64, u16)> = here.map(|(number, taken)| (*number, taken.1)).collect();
            (number, taken)
        };
        if taken.len() <= self.record.slots {
            return number;
        }
        let at = self.record.started.elapsed();
        let open = kernel::established(ports.0);
        let clients: Vec<u64> = taken
            .into_iter()
            .filter(|(_, client)| open.contains(client))
            .map(|(number, _)| number)
            .collect();
        if clients.len() > self.record.slots {
            self.record.seen().crowds.push(Crowded {
                at,
                domain: self.domain.clone(),
                clients,
            });
        }
        number
    }

    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::Relaxed) == mood as u8
    }

    async fn session(&self, mut stream: TcpStream, number: u64) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        if self.is(Mood::Busy) {
            return stream.write_all(b"421 4.3.2 Not now\r\n").await;
        }
        stream.write_all(b"220 sink.test ESMTP\r\n").await?;
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut transaction = Transaction::default();
        let mut worker = String::new();
        loop {
            while let Some(end) = memmem::find(&buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
                buffer.drain(..end + 2);
                let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
                if word == "DATA" {
                    if transaction.recipients.is_empty() {
                        stream.write_all(b"554 5.5.1 Nobody to take it\r\n").await?;
                        continue;
                    }
                    stream.write_all(b"354 Go on\r\n").await?;
                    let content = read_content(&mut stream, &mut buffer).await?;
                    let taken = std::mem::take(&mut transaction);
                    if self.is(Mood::Rude) {
                        return Ok(());
                    }
                    let silent = self.is(Mood::Silent);
                    self.take(&content, taken, &worker, silent);
                    if silent {
                        return Ok(());
                    }
                    if self.is(Mood::Slow) {
                        tokio::time::sleep(SLOW).await;
                    }
                    stream.write_all(b"250 2.0.0 Ok\r\n").await?;
                    continue;
                }
                if word == "EHLO" || word == "HELO" {
                    worker = line[4..].trim().to_owned();
                    let mut seen = self.record.seen();
                    seen.names.insert(number, worker.clone());
                }
                let reply = self.reply(&word, &line, &mut transaction);
                stream.write_all(reply.as_bytes()).await?;
                if word == "QUIT" {
                    return Ok(());
                }
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    fn reply(&self, word: &str, line: &str, transaction: &mut Transaction) -> &'static str {
        match word {
            "EHLO" => {
                "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
            }
            "RCPT" => {
                let address = parse::path(line).unwrap_or_default().to_owned();
                if self.is(Mood::Full) {
                    "451 4.3.1 No space now\r\n"
                } else if address.starts_with("fail") {
                    "550 5.1.1 Nobody of that name\r\n"
                } else if address.starts_with("later")
                    && self.record.seen().put_off.insert(address.clone())
                {
                    "450 4.2.1 Later\r\n"
                } else {
                    transaction.recipients.push(address);
                    "250 2.1.5 Ok\r\n"
                }
            }
            "MAIL" | "RSET" => {
                transaction.recipients.clear();
                "250 2.0.0 Ok\r\n"
            }
            "QUIT" => "221 2.0.0 Bye\r\n",
            _ => "250 2.0.0 Ok\r\n",
        }
    }

    fn take(&self, content: &[u8], transaction: Transaction, worker: &str, unanswered: bool) {
        let report = parse::report(content);
        let arrival = Arrival {
            at: self.record.started.elapsed(),
            destination: format!("smtp:{}", self.domain),
            worker: worker.to_owned(),
            queue_id: parse::queue_id(content).unwrap_or_default(),
            recipients: transaction.recipients,
            whole: report.is_some() || crate::sink::is_whole(content),
            unanswered,
            report,
        };
        self.record.seen().arrivals.push(arrival);
    }
}

/// Reads to the final dot. The content comes as it stands on the wire, without that dot; what
/// follows stays in the buffer.
async fn read_content(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Vec<u8>> {
    loop {
        if let Some(at) = memmem::find(buffer, b"\r\n.\r\n") {
            let rest = buffer.split_off(at + 5);
            let mut content = std::mem::replace(buffer, rest);
            content.truncate(at + 2);
            return Ok(content);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
