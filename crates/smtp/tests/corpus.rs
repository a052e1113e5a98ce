//! Replays the inputs of `fuzz/corpus/`: seeds, and whatever fuzzing has found.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::path::Path;

use support::harness;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Named before it runs, so that a failure tells which it was.
        println!("{}", path.display());
        body(&fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(
        replayed >= 3,
        "only {replayed} inputs in {}",
        folder.display()
    );
}

#[test]
fn address() {
    replay("address", harness::address);
}

#[test]
fn command() {
    replay("command", harness::command);
}

#[test]
fn reply() {
    replay("reply", harness::reply);
}

#[test]
fn data_roundtrip() {
    replay("data_roundtrip", harness::data_roundtrip);
}

#[test]
fn server_session() {
    replay("server_session", harness::server_session);
}

#[test]
fn client_session() {
    replay("client_session", harness::client_session);
}
