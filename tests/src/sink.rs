//! Where a numbered load ends: a small SMTP server that counts what arrives.
//!
//! It is the load program's own measuring instrument and no part of the product: it takes
//! everything, keeps nothing but numbers and times, and checks that each content is whole.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::source::{CHECKSUM_HEADER, NUMBER_HEADER};

/// What arrived so far.
#[derive(Debug, Default)]
pub struct Counts {
    arrivals: Mutex<HashMap<u64, (Instant, u32)>>,
    unnumbered: AtomicU64,
    damaged: AtomicU64,
    open: AtomicUsize,
    most_open: AtomicUsize,
    connections: AtomicU64,
}

impl Counts {
    fn arrivals(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (Instant, u32)>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many different numbers arrived.
    #[must_use]
    pub fn different(&self) -> usize {
        self.arrivals().len()
    }

    /// When a number first arrived.
    #[must_use]
    pub fn arrival(&self, number: u64) -> Option<Instant> {
        self.arrivals().get(&number).map(|(at, _)| *at)
    }

    /// Numbers that arrived more than once, with how often.
    #[must_use]
    pub fn repeated(&self) -> Vec<(u64, u32)> {
        self.arrivals()
            .iter()
            .filter(|(_, (_, times))| *times > 1)
            .map(|(number, (_, times))| (*number, *times))
            .collect()
    }

    /// When the last new number arrived.
    #[must_use]
    pub fn last_arrival(&self) -> Option<Instant> {
        self.arrivals().values().map(|(at, _)| *at).max()
    }

    /// Messages without a number (a DSN, say).
    #[must_use]
    pub fn unnumbered(&self) -> u64 {
        self.unnumbered.load(Ordering::Relaxed)
    }

    /// Numbered messages whose content was not what the source sent.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The most connections that were open at one time.
    #[must_use]
    pub fn most_open(&self) -> usize {
        self.most_open.load(Ordering::Relaxed)
    }

    /// Connections accepted in all.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    fn take(&self, content: &[u8]) {
        let now = Instant::now();
        match number_of(content) {
            Some(number) => {
                if !is_whole(content) {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                }
                self.arrivals().entry(number).or_insert((now, 0)).1 += 1;
            }
            None => {
                self.unnumbered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The value of a header field that the source wrote.
fn field<'a>(content: &'a [u8], name: &str) -> Option<&'a str> {
    let header = &content[..memmem::find(content, b"\r\n\r\n")?];
    let at = memmem::find(header, name.as_bytes())? + name.len();
    let value = header[at..].split(|byte| *byte == b'\r').next()?;
    Some(std::str::from_utf8(value).ok()?.trim())
}

fn number_of(content: &[u8]) -> Option<u64> {
    field(content, NUMBER_HEADER)?.parse().ok()
}

/// Whether the body, as it stands on the wire, is what its checksum was made of.
pub(crate) fn is_whole(content: &[u8]) -> bool {
    let sum = field(content, CHECKSUM_HEADER).and_then(|text| u32::from_str_radix(text, 16).ok());
    let Some(start) = memmem::find(content, b"\r\n\r\n") else {
        return false;
    };
    let mut hasher = crc32fast::Hasher::new();
    // From the empty line's CRLF on, so that a dot that begins the body is found as well.
    let mut rest = &content[start + 2..];
    let mut skip = 2;
    while let Some(at) = memmem::find(rest, b"\r\n..") {
        hasher.update(&rest[skip..at + 3]);
        rest = &rest[at + 4..];
        skip = 0;
    }
    hasher.update(&rest[skip..]);
    sum == Some(hasher.finalize())
}

/// A running sink. It stops when it is dropped.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    /// What arrived.
    pub counts: Arc<Counts>,
    task: tokio::task::JoinHandle<()>,
}

impl Sink {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start() -> std::io::Result<Self> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), Duration::ZERO).await
    }

    /// Listens on a given address.
    ///
    /// # Errors
    /// It is taken.
    pub async fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        Self::listen(address, Duration::ZERO).await
    }

    /// A sink that waits before each reply to end-of-data.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start_slow(wait: Duration) -> std::io::Result<Self> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), wait).await
    }

    async fn listen(address: SocketAddr, wait: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counts = Arc::clone(&shared);
                tokio::spawn(async move {
                    let open = counts.open.fetch_add(1, Ordering::Relaxed) + 1;
                    counts.most_open.fetch_max(open, Ordering::Relaxed);
                    counts.connections.fetch_add(1, Ordering::Relaxed);
                    // A client that goes away ends its session and nothing else.
                    session(stream, &counts, wait).await.ok();
                    counts.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self {
            address,
            counts,
            task,
        })
    }

    /// Waits until so many different numbers have arrived, or nothing new has for `patience`.
    pub async fn wait_for(&self, different: usize, patience: Duration) {
        let (mut seen, mut since) = (self.counts.different(), Instant::now());
        while seen < different && since.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = self.counts.different();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn session(mut stream: TcpStream, counts: &Counts, wait: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink.test ESMTP\r\n").await?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut replies = Vec::new();
    // Whether content is being received, and how far it was searched for its end.
    let mut content: Option<usize> = None;
    loop {
        let mut consumed = 0;
        loop {
            let rest = &buffer[consumed..];
            if let Some(searched) = content {
                let from = searched.saturating_sub(4);
                match memmem::find(&rest[from..], b"\r\n.\r\n") {
                    Some(at) => {
                        counts.take(&rest[..from + at + 2]);
                        consumed += from + at + 5;
                        content = None;
                        if !wait.is_zero() {
                            tokio::time::sleep(wait).await;
                        }
                        replies.extend_from_slice(b"250 2.0.0 Ok\r\n");
                    }
                    None => {
                        content = Some(rest.len());
                        break;
                    }
                }
            } else {
                let Some(end) = memmem::find(rest, b"\r\n") else {
                    break;
                };
                let word = rest[..end.min(4)].to_ascii_uppercase();
                consumed += end + 2;
                match word.as_slice() {
                    b"EHLO" => replies.extend_from_slice(
                        b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n",
                    ),
                    b"DATA" => {
                        replies.extend_from_slice(b"354 Go on\r\n");
                        content = Some(0);
                    }
                    b"QUIT" => {
                        replies.extend_from_slice(b"221 2.0.0 Bye\r\n");
                        return stream.write_all(&replies).await;
                    }
                    _ => replies.extend_from_slice(b"250 2.0.0 Ok\r\n"),
                }
            }
        }
        buffer.drain(..consumed);
        if !replies.is_empty() {
            stream.write_all(&replies).await?;
            replies.clear();
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
