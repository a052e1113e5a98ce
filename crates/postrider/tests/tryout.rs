//! Try-out mode as a newcomer meets it: started in an empty folder, and each printed command
//! pasted into a shell, one after the other.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start or a delivery may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

struct TryOut {
    process: Child,
    printed: Vec<String>,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

const KEYS: [&str; 7] = [
    "POSTRIDER__EDGE__LISTENERS__0__ADDRESS",
    "POSTRIDER__EDGE__LISTENERS__1__ADDRESS",
    "POSTRIDER__EDGE__LISTENERS__2__ADDRESS",
    "POSTRIDER__MAILBOX__POP3__LISTENERS__0__ADDRESS",
    "POSTRIDER__MAILBOX__POP3__LISTENERS__1__ADDRESS",
    "POSTRIDER__TELEMETRY__LISTEN",
    "POSTRIDER__SERVICES__QUEUE_LISTEN",
];

fn command(folder: &Path, ports: &[(&'static str, u16)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.current_dir(folder).stdin(Stdio::null());
    for (key, port) in ports {
        command.env(key, format!("127.0.0.1:{port}"));
    }
    command
}

impl TryOut {
    fn start(folder: &Path) -> Self {
        let ports: Vec<_> = KEYS.iter().map(|key| (*key, free_port())).collect();
        let mut process = command(folder, &ports)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut printed = Vec::new();
        // The last command and the empty line after it end the printout.
        while !printed
            .iter()
            .any(|line: &String| line.contains(" journey "))
        {
            printed.push(lines.next().expect("the try-out stopped").unwrap());
        }
        Self { process, printed }
    }

    /// The commands below each "# …" line, as they are printed.
    fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut inside = false;
        for line in &self.printed {
            if line.starts_with("# ") {
                commands.push(String::new());
                inside = true;
            } else if line.is_empty() {
                inside = false;
            } else if inside {
                let command = commands.last_mut().unwrap();
                command.push_str(line);
                command.push('\n');
            }
        }
        commands
    }

    fn password(&self, account: &str) -> String {
        let start = format!("{account}@postrider.test, password ");
        self.printed
            .iter()
            .find_map(|line| line.split_once(&start))
            .map(|(_, password)| password.to_owned())
            .expect("no password is printed")
    }

    fn stop(mut self) -> bool {
        Command::new("kill")
            .arg(self.process.id().to_string())
            .status()
            .unwrap();
        self.process.wait().unwrap().success()
    }
}

impl Drop for TryOut {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Pastes a command; retried while it fails, as a newcomer would who is too fast.
fn paste(command: &str, elsewhere: &Path) -> String {
    let start = Instant::now();
    loop {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(elsewhere)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return text;
        }
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(start.elapsed() < PATIENCE, "{command}\n{text}{problem}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_three_printed_commands_work_as_printed() {
    // Paths with a space and a quote are what a shell trips over.
    let folder = tempfile::Builder::new()
        .prefix("it's here ")
        .tempdir()
        .unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let tryout = TryOut::start(folder.path());
    let commands = tryout.commands();
    let [send, fetch, journey] = commands.as_slice() else {
        panic!("three commands should be printed: {commands:#?}");
    };

    paste(send, elsewhere.path());
    let fetched = paste(fetch, elsewhere.path());
    assert!(fetched.contains("\r\nIt works.\r\n"), "{fetched}");
    assert!(
        fetched.starts_with("Return-Path: <bob@postrider.test>\r\n"),
        "{fetched}"
    );
    let drawn = paste(journey, elsewhere.path());
    for words in [
        "[hidden]",
        "RCPT TO:<alice@postrider.test>",
        "delivered",
        "has ended",
    ] {
        assert!(drawn.contains(words), "{words:?} is missing in\n{drawn}");
    }
    for account in ["alice", "bob"] {
        assert!(!drawn.contains(&tryout.password(account)));
    }
    assert!(tryout.stop(), "SIGTERM should end it with status 0");
}

#[test]
fn passwords_certificate_and_mail_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = TryOut::start(folder.path());
    let passwords = ["alice", "bob"].map(|account| first.password(account));
    paste(&first.commands()[0], folder.path());
    paste(&first.commands()[1], folder.path());
    assert!(first.stop());

    let second = TryOut::start(folder.path());
    assert_eq!(
        ["alice", "bob"].map(|account| second.password(account)),
        passwords
    );
    let fetched = paste(&second.commands()[1], folder.path());
    assert!(
        fetched.contains("It works."),
        "the mail of the first run is gone"
    );
    assert!(second.stop());
    let data: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(data.len(), 1, "everything is in one folder: {data:?}");
}

#[test]
fn mail_to_elsewhere_stays_here() {
    let folder = tempfile::tempdir().unwrap();
    let tryout = TryOut::start(folder.path());
    let commands = tryout.commands();
    let send = commands[0].replace(
        "--mail-rcpt alice@postrider.test",
        "--mail-rcpt eve@example.org",
    );
    paste(&send, folder.path());
    let start = Instant::now();
    let drawn = loop {
        let drawn = paste(&commands[2], folder.path());
        if drawn.contains("has ended") {
            break drawn;
        }
        assert!(start.elapsed() < PATIENCE, "{drawn}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(drawn.contains("smtp:example.org"), "{drawn}");
}

#[test]
fn taken_ports_are_told_all_at_once_with_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports: Vec<_> = KEYS
        .iter()
        .enumerate()
        .map(|(at, key)| (*key, if at == 1 { port } else { free_port() }))
        .collect();
    let output = command(folder.path(), &ports).output().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{problem}");
    assert!(
        problem.contains(&format!("127.0.0.1:{port} (submission) is taken")),
        "{problem}"
    );
    assert!(problem.contains("edge.listeners[1].address"), "{problem}");
    assert!(
        fs::read_dir(folder.path()).unwrap().next().is_none(),
        "nothing was made"
    );
}

#[test]
fn the_answer_to_no_server_comes_at_once() {
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args([
            "queue",
            "list",
            "--server",
            &format!("127.0.0.1:{}", free_port()),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no server answers"));
    assert!(start.elapsed() < Duration::from_secs(5));
}
