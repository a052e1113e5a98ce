//! Loads, measured.

use clap::{Args, ValueEnum};

use crate::peers;
use crate::shell::{self, cargo};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which load.
    #[arg(default_value = "relay")]
    load: Load,
    /// Passed on to the load program, e.g. `-- --messages 20000 --only embedded`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Messages through Postrider, in both modes and on both stores, and through Postfix.
    Relay,
    /// One destination beside others whose servers are stalled.
    Isolation,
    /// Messages to many recipients beside messages to one.
    Recipients,
    /// The queue alone, on both stores, beside up to a million waiting deliveries.
    Queue,
}

/// The verb.
///
/// # Errors
/// The load program failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    peers::fetch()?;
    let (package, bench) = match options.load {
        Load::Relay => ("--package=postrider-tests", "relay"),
        Load::Isolation => ("--package=postrider-tests", "isolation"),
        Load::Recipients => ("--package=postrider-tests", "recipients"),
        Load::Queue => ("--package=postrider-queue", "queue"),
    };
    if options.load != Load::Queue {
        shell::run(&mut cargo(&[
            "build",
            "--workspace",
            "--bins",
            "--release",
            "--quiet",
        ]))?;
    }
    shell::run(cargo(&["bench", package, "--bench", bench, "--"]).args(&options.arguments))
}
