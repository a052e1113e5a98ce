//! A Redis server of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postrider_queue::store::redis::RedisConfig;
use tempfile::TempDir;

/// A running `redis-server` with its data in a temporary folder. Killed when dropped.
pub struct RedisServer {
    dir: TempDir,
    port: u16,
    kind: Kind,
    settings: Vec<(String, String)>,
    child: Option<Child>,
}

/// `POSTRIDER_REDIS_SERVER` names another program to test with: another release, or Valkey.
fn program() -> std::ffi::OsString {
    std::env::var_os("POSTRIDER_REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Sentinel,
}

/// Settings under which a server may be trusted with mail.
pub const SAFE: &[(&str, &str)] = &[
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("maxmemory-policy", "noeviction"),
];

impl RedisServer {
    /// Starts one that may be trusted with mail.
    pub fn start() -> Self {
        Self::with(SAFE)
    }

    /// Starts one with these settings.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::of(Kind::Server, settings)
    }

    /// Starts a Sentinel that watches a master under this name, with a majority of so many.
    pub fn sentinel(name: &str, master: &Self, majority: usize) -> Self {
        let sentinel = Self::of(Kind::Sentinel, &[]);
        let (port, majority) = (master.port.to_string(), majority.to_string());
        for words in [
            ["SENTINEL", "MONITOR", name, "127.0.0.1", &port, &majority].as_slice(),
            &["SENTINEL", "SET", name, "down-after-milliseconds", "1500"],
            &["SENTINEL", "SET", name, "failover-timeout", "3000"],
        ] {
            sentinel.command(words).unwrap();
        }
        sentinel
    }

    /// Starts one that also speaks TLS and asks for certificates, with `server.pem`, `server.key`
    /// and `ca.pem` out of a folder.
    pub fn with_tls(certificates: &std::path::Path) -> Self {
        let file = |name: &str| certificates.join(name).display().to_string();
        let port = free_port().to_string();
        let (certificate, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
        let mut settings = SAFE.to_vec();
        settings.extend([
            ("tls-port", port.as_str()),
            ("tls-cert-file", &certificate),
            ("tls-key-file", &key),
            ("tls-ca-cert-file", &ca),
        ]);
        Self::with(&settings)
    }

    /// The port on which it speaks TLS.
    pub fn tls_port(&self) -> u16 {
        self.setting("tls-port").parse().unwrap()
    }

    /// What it was started with.
    pub fn setting(&self, name: &str) -> &str {
        let setting = self.settings.iter().find(|(known, _)| known == name);
        &setting.unwrap().1
    }

    fn of(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
            kind,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            child: None,
        };
        server.run();
        server
    }

    /// Starts it again, with the data that it had.
    pub fn run(&mut self) {
        let mut command = Command::new(program());
        match self.kind {
            Kind::Server => command.args(["--save", ""]),
            Kind::Sentinel => {
                // Its memory of the master, which a Sentinel writes itself.
                let file = self.dir.path().join("sentinel.conf");
                let file = std::fs::File::options()
                    .append(true)
                    .create(true)
                    .open(&file);
                file.unwrap();
                command.args(["sentinel.conf", "--sentinel"])
            }
        };
        command
            .current_dir(self.dir.path())
            .args(["--bind", "127.0.0.1", "--port"])
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("this test needs redis-server (Debian package redis-server): {error}")
        });
        self.child = Some(child);
        let started = Instant::now();
        while self.command(&["PING"]).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "redis-server does not answer"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Runs a command and returns its answer.
    pub fn command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut connection)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The store's settings for it.
    pub fn config(&self) -> RedisConfig {
        RedisConfig {
            url: self.url(),
            ..RedisConfig::default()
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody uses just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
