//! Runs every dialogue in `tests/dialogues/`, at once and octet by octet.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::path::Path;

#[test]
fn every_dialogue_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(
        files.len() >= 40,
        "only {} dialogues were found",
        files.len()
    );
    let failed: Vec<_> = files
        .iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            let outcome = std::panic::catch_unwind(|| support::dialogue::run(&text));
            if outcome.is_err() {
                eprintln!("^ {}\n", path.display());
            }
            outcome.is_err()
        })
        .collect();
    assert!(failed.is_empty(), "dialogues that do not hold: {failed:#?}");
}
