//! Fuzzing. The corpus is replayed by the ordinary tests too.

use std::fs;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::shell::{self, cargo, command, root, target};

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One target; all of them, one after the other, without it.
    name: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only list the targets.
    #[arg(long)]
    list: bool,
}

/// The verb.
///
/// # Errors
/// A target found something; its input is in `fuzz/artifacts`.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let targets = targets()?;
    if options.list {
        targets.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let chosen: Vec<_> = targets
        .iter()
        .filter(|name| options.name.as_ref().is_none_or(|only| only == *name))
        .collect();
    if chosen.is_empty() {
        bail!("no such target; there are {}", targets.join(", "));
    }
    let cargo_fuzz = cargo_fuzz()?;
    for name in chosen {
        println!("\n== {name}, {} s", options.seconds);
        // What it finds interesting goes to the first folder; the corpus in the repository is read.
        let found = target().join("fuzz-corpus").join(name);
        fs::create_dir_all(&found)?;
        shell::run(
            command(&cargo_fuzz)
                .args(["fuzz", "run", name])
                .arg(&found)
                .arg(root().join("fuzz/corpus").join(name))
                .arg("--")
                .arg(format!("-max_total_time={}", options.seconds))
                // The sanitizer's flags are unstable; this lets the stable compiler take them.
                .env("RUSTC_BOOTSTRAP", "1"),
        )?;
    }
    Ok(())
}

/// Names of the programs in `fuzz/fuzz_targets`.
fn targets() -> anyhow::Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for file in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = file?.path();
        if path.extension().is_some_and(|end| end == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// cargo-fuzz, built once into the target folder if the machine has none.
fn cargo_fuzz() -> anyhow::Result<std::path::PathBuf> {
    if shell::exists("cargo-fuzz", &["--version"]) {
        return Ok("cargo-fuzz".into());
    }
    let tools = target().join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.exists() {
        shell::run(
            cargo(&["install", "cargo-fuzz", "--locked", "--root"])
                .arg(&tools)
                .current_dir(std::env::temp_dir()),
        )?;
    }
    Ok(program)
}
