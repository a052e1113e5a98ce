//! Neighbours one release apart, and stores that an earlier release has written.

use clap::Args;

use crate::peers;
use crate::shell::{self, cargo};

/// Whether to write.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Record what this release adds, under its name, e.g. 0.2.0. Nothing that is recorded already
    /// is changed.
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
}

/// The packages that have recordings, each in a test named `compatibility`.
const PACKAGES: [&str; 2] = ["postrider-protocol", "postrider-queue"];

/// The verb.
///
/// # Errors
/// Something is not understood any more, or something new is not recorded.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    peers::fetch()?;
    if let Some(release) = &options.record {
        tests(release, &["--ignored", "record"])?;
    }
    tests("", &[])
}

fn tests(release: &str, arguments: &[&str]) -> anyhow::Result<()> {
    for package in PACKAGES {
        shell::run(
            cargo(&["test", "--quiet", "--package", package])
                .args(["--test", "compatibility", "--"])
                .args(arguments)
                .env("POSTRIDER_RELEASE", release),
        )?;
    }
    Ok(())
}
