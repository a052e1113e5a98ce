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
    settings: Vec<(String, String)>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one that may be trusted with mail.
    pub fn start() -> Self {
        Self::with(&[
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("maxmemory-policy", "noeviction"),
        ])
    }

    /// Starts one with these settings.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
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
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
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

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
