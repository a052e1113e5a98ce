//! What earlier releases have written is read for ever.
//!
//! `recorded/` holds what a store looked like after [`scenario::play`], once for each release that
//! changed something: a folder of the embedded store as a crash left it, the keys of a Redis as
//! commands. Each is opened by the code of today, must hold what the scenario left in it, and must
//! come to its proper end. A recording is made once, by the release that it is named after
//! (`cargo xtask compatibility --record NAME`), and is never changed.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod embedded;
mod redis;
mod scenario;

use std::path::{Path, PathBuf};

/// Recordings whose names begin like this.
fn recorded(prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {prefix} in {}", folder().display());
    found
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compatibility/recorded")
}

/// Where the recording of the release `POSTRIDER_RELEASE` goes, if it is not there yet.
fn new_recording(prefix: &str, suffix: &str) -> Option<PathBuf> {
    let release = std::env::var("POSTRIDER_RELEASE").unwrap();
    let path = folder().join(format!("{prefix}{release}{suffix}"));
    if path.exists() {
        println!("{} is there and stays as it is", path.display());
        return None;
    }
    std::fs::create_dir_all(folder()).unwrap();
    Some(path)
}
