//! Loads, measured.

use clap::Args;

use crate::peers;
use crate::shell::{self, cargo};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which load: `relay` sends messages through Postrider, in both modes and on both stores, and
    /// through Postfix.
    #[arg(default_value = "relay")]
    name: String,
    /// Passed on to the load program, e.g. `-- --messages 20000 --only embedded`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The verb.
///
/// # Errors
/// The load program failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    peers::fetch()?;
    shell::run(&mut cargo(&[
        "build",
        "--workspace",
        "--bins",
        "--release",
        "--quiet",
    ]))?;
    shell::run(
        cargo(&[
            "bench",
            "--package=postrider-tests",
            "--bench",
            &options.name,
            "--",
        ])
        .args(&options.arguments),
    )
}
