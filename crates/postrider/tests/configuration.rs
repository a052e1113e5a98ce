//! The configuration as an operator meets it: checked, explained, shown, reloaded.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use postrider_config::testing::every_key_is_checked;

const PATIENCE: Duration = Duration::from_secs(60);

fn postrider(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn config(folder: &Path, text: &str) -> String {
    let path = folder.join("postrider.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Some forms of types make serde overlook unknown keys.
#[test]
fn no_unknown_key_gets_past_the_loader() {
    let reference = include_str!("../../../docs/postrider.toml");
    let uncommented = reference.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(char::is_alphabetic) => key,
        _ => line,
    });
    let example = &uncommented.collect::<Vec<_>>().join("\n");
    every_key_is_checked::<postrider_config::ServerConfig>("server", example);
    // These have no defaults that could stand there.
    let tls = "[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
    every_key_is_checked::<postrider_tls::TlsConfig>("tls", tls);
    every_key_is_checked::<postrider_protocol::grpc::ServicesConfig>("services", example);
    every_key_is_checked::<postrider_telemetry::TelemetryConfig>("telemetry", example);
    every_key_is_checked::<postrider_edge::EdgeConfig>("edge", example);
    every_key_is_checked::<postrider_queue::QueueConfig>("queue", example);
    every_key_is_checked::<postrider_delivery::DeliveryConfig>("delivery", example);
    every_key_is_checked::<postrider_mailbox::MailboxConfig>("mailbox", example);
}

#[test]
fn check_tells_every_mistake_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(
        folder.path(),
        "[server]\nhostnam = \"x.test\"\n\n[delivery]\nport = 0\n\n[queue]\nlifetime = \"soon\"\n",
    );
    let output = postrider(&["config", "check", "--config", &path]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for words in [
        ":2: ",
        "hostnam",
        "\"hostname\"",
        "delivery.port",
        ":8: ",
        "queue.lifetime",
    ] {
        assert!(told.contains(words), "{words:?} is missing in\n{told}");
    }
}

#[test]
fn the_reference_is_a_valid_config_that_changes_nothing() {
    let reference = postrider(&["config", "reference"]);
    assert!(reference.status.success());
    let text = String::from_utf8(reference.stdout).unwrap();
    for section in [
        "[server]",
        "[edge]",
        "[queue]",
        "[delivery]",
        "[mailbox]",
        "[telemetry]",
    ] {
        assert!(text.contains(section), "{section}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), &text);
    let check = postrider(&["config", "check", "--config", &path]);
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
    let with_reference = postrider(&["config", "dump", "--config", &path]);
    let without = postrider(&["config", "dump"]);
    assert_eq!(
        String::from_utf8(with_reference.stdout).unwrap(),
        String::from_utf8(without.stdout).unwrap()
    );
}

#[test]
fn dump_shows_the_environment_and_hides_passwords() {
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["config", "dump"])
        .env("POSTRIDER__SERVER__HOSTNAME", "mx.example.org")
        .env(
            "POSTRIDER__TELEMETRY__OTLP_ENDPOINT",
            "http://queue:s3cr3t@collector.test:4317",
        )
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(told.contains("hostname = \"mx.example.org\""), "{told}");
    assert!(
        told.contains("collector.test") && !told.contains("s3cr3t"),
        "{told}"
    );
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits for a line of the log that contains some words.
fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, words: &str) -> String {
    let start = Instant::now();
    let mut seen = String::new();
    for line in lines {
        let line = line.unwrap();
        if line.contains(words) {
            return line;
        }
        seen.push_str(&line);
        seen.push('\n');
        assert!(start.elapsed() < PATIENCE, "no {words:?} in\n{seen}");
    }
    panic!("the server ended without {words:?}:\n{seen}");
}

#[test]
fn a_changed_file_is_reloaded_and_what_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str, recipients: u32| {
        format!(
            "[server]\nhostname = \"{name}\"\ndata_dir = {:?}\n\
             [telemetry]\nlisten = []\n\
             [services]\nqueue_listen = \"127.0.0.1:0\"\n\
             [edge]\nlisteners = [{{ address = \"127.0.0.1:{{port}}\", role = \"mx\" }}]\n\
             [edge.limits]\nrecipients = {recipients}\n\
             [mailbox.pop3]\nlisteners = []\n",
            folder.path().join("data")
        )
    };
    let port = free_port().to_string();
    let write = |text: String| config(folder.path(), &text.replace("{port}", &port));
    let path = write(text("one.test", 1_000));
    let mut child = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["serve", "--config", &path])
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut serving = Serving(child);
    wait_for(&mut lines, "listening");

    write(text("one.test", 500));
    wait_for(&mut lines, "reloaded");
    write(text("two.test", 500));
    let told = wait_for(&mut lines, "next start");
    assert!(told.contains("[server]"), "{told}");
    write("[server\n".to_owned());
    wait_for(&mut lines, "everything stays as it was");

    Command::new("kill")
        .arg(serving.0.id().to_string())
        .status()
        .unwrap();
    assert!(
        serving.0.wait().unwrap().success(),
        "SIGTERM ends it with status 0"
    );
}

#[test]
fn accounts_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(
        folder.path(),
        &format!(
            "[server]\ndomains = [\"a.test\"]\ndata_dir = {:?}\n",
            folder.path().join("data")
        ),
    );
    let account = |arguments: &[&str], input: &str| {
        use std::io::Write;
        let mut child = Command::new(env!("CARGO_BIN_EXE_postrider"))
            .arg("account")
            .args(arguments)
            .args(["--config", &path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    fs::create_dir(folder.path().join("data")).unwrap();
    let (status, told) = account(&["add", "alice@a.test"], "open sesame\n");
    assert_eq!(status, Some(0), "{told}");
    assert!(!told.contains("sesame"));
    let (status, told) = account(&["add", "bob@a.test", "--generate"], "");
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("Password: "), "{told}");
    assert_eq!(account(&["add", "alice@a.test"], "again\n").0, Some(2));
    assert_eq!(
        account(&["add", "eve@b.test"], "x\n").0,
        Some(2),
        "not a domain of ours"
    );
    assert_eq!(
        account(&["add", "carol@a.test"], "\n").0,
        Some(2),
        "an empty password"
    );
    assert_eq!(account(&["passwd", "nobody@a.test"], "x\n").0, Some(1));
    let (_, told) = account(&["list", "--json"], "");
    assert_eq!(told.lines().count(), 2, "{told}");
    assert_eq!(account(&["remove", "bob@a.test"], "").0, Some(0));
    assert_eq!(account(&["remove", "bob@a.test"], "").0, Some(1));
    let (_, told) = account(&["list"], "");
    assert!(
        told.contains("alice@a.test") && !told.contains("bob@a.test"),
        "{told}"
    );
}
