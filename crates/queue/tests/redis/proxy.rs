//! A way to Redis that breaks off in the middle of an answer, or before a command.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Passes on what goes to a server and so many bytes of what it answers. Then it cuts every connection,
/// and each new one at once. Ends when dropped.
pub(crate) struct Proxy {
    port: u16,
    way: Arc<Way>,
    task: JoinHandle<()>,
}

struct Way {
    /// Bytes of answers that still pass.
    left: AtomicU64,
    /// It breaks off once, and connections that are made after that pass.
    once: AtomicBool,
    /// It has done so.
    broke: AtomicBool,
    /// The port to which new connections lead.
    server: AtomicU16,
    /// What is asked with this in it does not pass.
    before: OnceLock<Vec<u8>>,
    cut: Notify,
}

impl Way {
    /// How many of so many bytes pass.
    fn pass(&self, bytes: usize) -> usize {
        let bytes = bytes as u64;
        let spend = |left: u64| match left {
            u64::MAX => Some(left),
            left => Some(left.saturating_sub(bytes)),
        };
        let before = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend);
        before.unwrap().min(bytes) as usize
    }

    fn is_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

impl Proxy {
    /// A way to this port, which does not break off yet.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(Way {
            left: AtomicU64::new(u64::MAX),
            once: AtomicBool::new(false),
            broke: AtomicBool::new(false),
            server: AtomicU16::new(server),
            before: OnceLock::new(),
            cut: Notify::new(),
        });
        let task = tokio::spawn(accept(listener, way.clone()));
        Self { port, way, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Lets so many more bytes of answers pass.
    pub(crate) fn break_after(&self, bytes: u64) {
        self.way.left.store(bytes, Ordering::SeqCst);
        if bytes == 0 {
            self.way.cut.notify_waiters();
        }
    }

    /// The same, but whoever connects anew then comes through.
    pub(crate) fn break_once_after(&self, bytes: u64) {
        self.way.once.store(true, Ordering::SeqCst);
        self.break_after(bytes);
    }

    /// From now on everything passes again.
    pub(crate) fn heals(&self) {
        self.break_after(u64::MAX);
    }

    /// Whoever connects from now on comes to another server.
    pub(crate) fn leads_to(&self, server: u16) {
        self.way.server.store(server, Ordering::SeqCst);
    }

    /// Breaks off before a command with this in it.
    pub(crate) fn break_before(&self, what: impl Into<Vec<u8>>) {
        self.way.before.set(what.into()).unwrap();
    }

    /// It has broken off.
    pub(crate) fn is_cut(&self) -> bool {
        self.way.is_cut() || self.way.broke.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.break_after(0);
    }
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if way.is_cut() {
            if !way.once.swap(false, Ordering::SeqCst) {
                continue;
            }
            way.broke.store(true, Ordering::SeqCst);
            way.left.store(u64::MAX, Ordering::SeqCst);
        }
        let server = way.server.load(Ordering::SeqCst);
        let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
        let way = way.clone();
        tokio::spawn(async move {
            let cut = way.cut.notified();
            tokio::select! {
                () = cut => {}
                () = pass_on(client, server, &way) => {}
            }
        });
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, way: &Way) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asks = async {
        let mut buffer = vec![0; 65536];
        // The last command, perhaps whole, as far as it has been read.
        let mut read = Vec::new();
        while let Ok(got @ 1..) = from_client.read(&mut buffer).await {
            read.extend_from_slice(&buffer[..got]);
            if let Some(before) = way.before.get() {
                if read.windows(before.len()).any(|part| part == before) {
                    way.left.store(0, Ordering::SeqCst);
                    break;
                }
                read.drain(..read.len().saturating_sub(before.len()));
            } else {
                read.clear();
            }
            if to_server.write_all(&buffer[..got]).await.is_err() {
                break;
            }
        }
        if way.is_cut() {
            way.cut.notify_waiters();
        }
    };
    let answers = async {
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = from_server.read(&mut buffer).await {
            let passes = way.pass(got);
            if to_client.write_all(&buffer[..passes]).await.is_err() || passes < got || way.is_cut()
            {
                break;
            }
        }
        if way.is_cut() {
            way.cut.notify_waiters();
        }
    };
    tokio::select! {
        () = asks => {}
        () = answers => {}
    }
}
