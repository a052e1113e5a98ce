//! A mail server that says what a test tells it to. It is a fake: it checks nothing and obeys
//! no RFC further than its replies go.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::CertifiedKey;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a sink hears.
pub(crate) struct Line<'a> {
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
    /// Messages taken on this connection before.
    pub(crate) message: usize,
    /// Recipients accepted in this transaction so far.
    pub(crate) recipients: usize,
    /// A command without its line end; "" when the connection was opened; "." after the content.
    pub(crate) text: &'a str,
}

/// What it says to that.
pub(crate) enum Say {
    /// Lines without CRLF.
    Reply(&'static str),
    /// Closes without a word.
    Close,
    /// Says this and closes.
    ReplyAndClose(&'static str),
    /// What a sink says of itself, after so many milliseconds.
    Slowly(u64),
    /// Never says anything.
    Hang,
    /// This line again and again, every 50 milliseconds.
    Forever(&'static str),
    /// Says 220 and then garbage in place of a handshake.
    BreakTls,
    /// What a sink says of itself.
    Usual,
}

/// A message that was taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    pub(crate) connection: usize,
    pub(crate) mail: String,
    pub(crate) recipients: Vec<String>,
    /// As it came over the wire, without the final dot's line.
    pub(crate) wire: Vec<u8>,
    pub(crate) tls: bool,
}

impl Taken {
    /// The content without dot-stuffing.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        for line in self.wire.split_inclusive(|byte| *byte == b'\n') {
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        content
    }
}

type Script = dyn Fn(&Line<'_>) -> Say + Send + Sync;

pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    /// Its certificate in PEM, for `mx.there.test`.
    pub(crate) certificate: String,
    state: Arc<State>,
}

struct State {
    script: Box<Script>,
    offers: &'static [&'static str],
    tls: TlsAcceptor,
    taken: Mutex<Vec<Taken>>,
    commands: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

const TAKEN: &str = "250 2.0.0 Ok: taken";

pub(crate) const USUAL: &[&str] = &["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"];

impl Sink {
    /// Takes everything.
    pub(crate) async fn willing(ip: &str) -> Self {
        Self::start(ip, 0, USUAL, |_| Say::Usual).await
    }

    pub(crate) async fn start(
        ip: &str,
        port: u16,
        offers: &'static [&'static str],
        script: impl Fn(&Line<'_>) -> Say + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let (tls, certificate) = acceptor();
        let state = Arc::new(State {
            script: Box::new(script),
            offers,
            tls,
            taken: Mutex::default(),
            commands: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let address = listener.local_addr().unwrap();
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move { state.serve(stream).await });
            }
        });
        Self {
            address,
            certificate,
            state,
        }
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state.taken.lock().unwrap().clone()
    }

    /// Every command of every connection.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.state.commands.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    pub(crate) fn most_open(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }
}

/// How a stretch of a connection ended.
enum End {
    Closed,
    Tls,
    BrokenTls,
}

impl State {
    async fn serve(&self, stream: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        match self.talk(&mut stream, number, false).await {
            End::Tls => {
                if let Ok(stream) = self.tls.accept(stream.into_inner()).await {
                    self.talk(&mut BufReader::new(stream), number, true).await;
                }
            }
            End::BrokenTls => {
                // After the first words of the client's handshake.
                stream.fill_buf().await.ok();
                stream.get_mut().write_all(b"\x16garbage\r\n").await.ok();
            }
            End::Closed => {}
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    async fn talk<S>(&self, stream: &mut BufReader<S>, number: usize, tls: bool) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut taken = Taken {
            connection: number,
            tls,
            ..Taken::default()
        };
        let mut messages = 0;
        let mut text = String::new();
        let mut greeted = tls;
        loop {
            if greeted {
                text.clear();
                match stream.read_line(&mut text).await {
                    Ok(length) if length > 0 => {}
                    _ => return End::Closed,
                }
                text.truncate(text.trim_end().len());
                self.commands.lock().unwrap().push(text.clone());
            }
            greeted = true;
            let say = (self.script)(&Line {
                connection: number,
                message: messages,
                recipients: taken.recipients.len(),
                text: &text,
            });
            let word = text
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase();
            let reply = match say {
                Say::Usual => self.usual(&word, tls),
                Say::Slowly(time) => {
                    tokio::time::sleep(Duration::from_millis(time)).await;
                    self.usual(&word, tls)
                }
                Say::Reply(reply) => reply.replace('\n', "\r\n"),
                Say::Close => return End::Closed,
                Say::ReplyAndClose(reply) => {
                    stream
                        .get_mut()
                        .write_all(format!("{reply}\r\n").as_bytes())
                        .await
                        .ok();
                    return End::Closed;
                }
                Say::Hang => std::future::pending().await,
                Say::Forever(line) => loop {
                    let line = format!("{line}\r\n");
                    if stream.get_mut().write_all(line.as_bytes()).await.is_err() {
                        return End::Closed;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                },
                Say::BreakTls => {
                    stream.get_mut().write_all(b"220 go ahead\r\n").await.ok();
                    return End::BrokenTls;
                }
            };
            let good = reply.starts_with('2');
            let written = stream
                .get_mut()
                .write_all(format!("{reply}\r\n").as_bytes())
                .await;
            if written.is_err() {
                return End::Closed;
            }
            match word.as_str() {
                "MAIL" if good => {
                    taken.mail.clone_from(&text);
                    taken.recipients.clear();
                }
                "RCPT" if good => taken.recipients.push(text.clone()),
                "RSET" => taken.recipients.clear(),
                "STARTTLS" if good => return End::Tls,
                "QUIT" => return End::Closed,
                "DATA" if reply.starts_with("354") => {
                    taken.wire = match content(stream).await {
                        Some(wire) => wire,
                        None => return End::Closed,
                    };
                    let say = (self.script)(&Line {
                        connection: number,
                        message: messages,
                        recipients: taken.recipients.len(),
                        text: ".",
                    });
                    let reply = match say {
                        Say::Reply(reply) | Say::ReplyAndClose(reply) => reply,
                        Say::Usual => TAKEN,
                        Say::Slowly(time) => {
                            tokio::time::sleep(Duration::from_millis(time)).await;
                            TAKEN
                        }
                        Say::Close | Say::BreakTls | Say::Forever(_) => return End::Closed,
                        Say::Hang => std::future::pending().await,
                    };
                    if reply.starts_with('2') {
                        self.taken.lock().unwrap().push(taken.clone());
                        messages += 1;
                    }
                    taken.recipients.clear();
                    stream
                        .get_mut()
                        .write_all(format!("{reply}\r\n").as_bytes())
                        .await
                        .ok();
                }
                _ => {}
            }
        }
    }

    fn usual(&self, word: &str, tls: bool) -> String {
        match word {
            "" => "220 sink.test ESMTP".to_owned(),
            "EHLO" => {
                let mut lines = vec!["sink.test"];
                lines.extend(
                    self.offers
                        .iter()
                        .filter(|offer| !(tls && **offer == "STARTTLS")),
                );
                let last = lines.len() - 1;
                let line = |(number, line): (usize, &&str)| {
                    format!("250{}{line}", if number == last { ' ' } else { '-' })
                };
                lines
                    .iter()
                    .enumerate()
                    .map(line)
                    .collect::<Vec<_>>()
                    .join("\r\n")
            }
            "DATA" => "354 go ahead".to_owned(),
            "STARTTLS" => "220 go ahead".to_owned(),
            "QUIT" => "221 bye".to_owned(),
            _ => "250 2.1.0 Ok".to_owned(),
        }
    }
}

/// Content up to the final dot; `None` if the connection ended before.
async fn content<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    loop {
        let start = wire.len();
        if stream.read_until(b'\n', &mut wire).await.ok()? == 0 {
            return None;
        }
        if &wire[start..] == b".\r\n" && (start == 0 || wire[..start].ends_with(b"\r\n")) {
            wire.truncate(start);
            return Some(wire);
        }
    }
}

fn acceptor() -> (TlsAcceptor, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["mx.there.test".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}
