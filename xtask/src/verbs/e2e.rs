//! The whole system, end to end.

use clap::Args;

use super::test::has_nextest;
use crate::peers;
use crate::shell::{self, cargo};

/// Which of the tests, and how they are built.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Build everything optimised: slower to build, and what users run.
    #[arg(long)]
    release: bool,
    /// Only tests whose names contain one of these.
    names: Vec<String>,
}

/// The verb.
///
/// # Errors
/// A test failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    peers::fetch()?;
    let mut arguments = Vec::new();
    if options.release {
        arguments.push("--release");
    }
    arguments.extend(options.names.iter().map(String::as_str));
    tests(&arguments)
}

/// Builds the binaries, then runs the tests. Arguments are cargo's, and names of tests.
///
/// # Errors
/// A test failed.
pub(crate) fn tests(arguments: &[&str]) -> anyhow::Result<()> {
    let (flags, names): (Vec<&str>, Vec<&str>) = arguments
        .iter()
        .partition(|argument| argument.starts_with("--"));
    shell::run(cargo(&["build", "--workspace", "--bins", "--quiet"]).args(&flags))?;
    let mut test = if has_nextest() {
        let mut nextest = cargo(&["nextest", "run", "--no-fail-fast"]);
        nextest.args(["--package=postrider-tests", "--test=e2e"]);
        nextest
    } else {
        cargo(&["test", "--package=postrider-tests", "--test=e2e"])
    };
    test.args(&flags);
    // Names are filters of the test program for both.
    if !names.is_empty() {
        test.arg("--").args(&names);
    }
    shell::run(&mut test)
}
