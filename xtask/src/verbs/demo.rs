//! The demo.

use clap::Args;

use crate::shell::{self, cargo};

/// Passed on to `postrider demo`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// E.g. `-- --fast --ascii`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The verb.
///
/// # Errors
/// Something of the demo did not hold.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let demo = [
        "run",
        "--release",
        "--quiet",
        "--package=postrider",
        "--",
        "demo",
    ];
    shell::run(cargo(&demo).args(&options.arguments))
}
