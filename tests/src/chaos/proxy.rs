//! A TCP proxy between two services, with the troubles of a network.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// No cut is due.
const NEVER: i64 = i64::MAX;

/// A proxy on a port of its own. It stops when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect to.
    pub address: SocketAddr,
    weather: Arc<Weather>,
    task: JoinHandle<()>,
}

/// What all connections of a proxy go through.
#[derive(Debug)]
struct Weather {
    /// Each change ends all connections.
    cuts: watch::Sender<u64>,
    /// Nothing passes while it is set.
    stalled: watch::Sender<bool>,
    delay_us: AtomicU64,
    /// Bytes of answers that still pass before everything is cut.
    allowance: AtomicI64,
}

impl Proxy {
    /// Passes connections on to the first of `servers` that takes them.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(servers: Vec<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let weather = Arc::new(Weather {
            cuts: watch::Sender::new(0),
            stalled: watch::Sender::new(false),
            delay_us: AtomicU64::new(0),
            allowance: AtomicI64::new(NEVER),
        });
        let shared = weather.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, servers.clone(), shared.clone()));
            }
        });
        Ok(Self {
            address,
            weather,
            task,
        })
    }

    /// Ends every connection now, in both directions.
    pub fn cut(&self) {
        self.weather.cut();
    }

    /// Ends every connection after so many more bytes of answers: in the middle of one.
    pub fn cut_after(&self, bytes: u32) {
        self.weather
            .allowance
            .store(bytes.into(), Ordering::Relaxed);
    }

    /// Lets nothing pass, and ends nothing, until [`Proxy::heal`].
    pub fn stall(&self) {
        self.weather.stalled.send_replace(true);
    }

    /// Holds everything back for so long.
    pub fn delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.weather.delay_us.store(delay, Ordering::Relaxed);
    }

    /// Ends every trouble.
    pub fn heal(&self) {
        self.delay(Duration::ZERO);
        self.weather.allowance.store(NEVER, Ordering::Relaxed);
        self.weather.stalled.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.weather.cut();
    }
}

impl Weather {
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn carry(client: TcpStream, servers: Vec<SocketAddr>, weather: Arc<Weather>) {
    let mut cuts = weather.cuts.subscribe();
    cuts.mark_unchanged();
    let carrying = async {
        let Some(server) = connect(&servers).await else {
            return;
        };
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            return;
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            pump(from_client, to_server, &weather, false),
            pump(from_server, to_client, &weather, true),
        );
    };
    tokio::select! {
        () = carrying => {}
        _ = cuts.changed() => {}
    }
}

async fn connect(servers: &[SocketAddr]) -> Option<TcpStream> {
    for server in servers {
        if let Ok(stream) = TcpStream::connect(server).await {
            return Some(stream);
        }
    }
    None
}

/// Passes bytes on in one direction until one end is done.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, weather: &Weather, answers: bool) {
    let mut buffer = vec![0; 16 << 10];
    let mut stalled = weather.stalled.subscribe();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let delay = weather.delay_us.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_micros(delay)).await;
        }
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            break;
        }
        let mut pass = read;
        if answers && weather.allowance.load(Ordering::Relaxed) != NEVER {
            let left = weather.allowance.fetch_sub(read as i64, Ordering::Relaxed);
            if left < read as i64 {
                pass = usize::try_from(left).unwrap_or(0);
            }
        }
        if to.write_all(&buffer[..pass]).await.is_err() {
            break;
        }
        if pass < read {
            weather.allowance.store(NEVER, Ordering::Relaxed);
            weather.cut();
            return;
        }
    }
    // The other direction goes on until it ends as well.
    to.shutdown().await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with ten.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        stream.write_all(&[byte; 10]).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<usize> {
        stream.write_all(b"x").await?;
        let mut answer = Vec::new();
        while answer.len() < 10 {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok(answer.len())
    }

    #[tokio::test]
    async fn answers_pass_and_are_cut_in_the_middle() {
        let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let gone = nobody.local_addr().unwrap();
        drop(nobody);
        let proxy = Proxy::start(vec![gone, echo().await]).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 10);
        proxy.cut_after(13);
        assert_eq!(ask(&mut stream).await.unwrap(), 10);
        assert!(matches!(ask(&mut stream).await, Ok(3) | Err(_)));
        // It was cut once; who connects again is served.
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 10);
        proxy.cut();
        assert!(matches!(ask(&mut stream).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn nothing_passes_while_it_is_stalled() {
        let proxy = Proxy::start(vec![echo().await]).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        proxy.stall();
        let wait = Duration::from_millis(100);
        assert!(tokio::time::timeout(wait, ask(&mut stream)).await.is_err());
        proxy.heal();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 10);
    }
}
