//! Everything that must hold.

use clap::Args;

use super::{docs, e2e, lint};
use crate::peers;
use crate::report::Report;
use crate::shell::{self, cargo, exists};

/// What of it to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out the end-to-end tests, which take the longest.
    #[arg(long)]
    quick: bool,
}

/// Runs every section, whatever the others say.
///
/// # Errors
/// A section failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut report = Report::new("test");
    report.section("peers", peers::fetch);
    lint::sections(&mut report);
    report.section("tests", tests);
    report.section("doc tests", || {
        shell::run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))
    });
    report.section("documentation", || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
        shell::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    report.section("docs are up to date", docs::check);
    if !options.quick {
        report.section("end to end", || e2e::tests(&[]));
    }
    report.finish()
}

/// Unit and integration tests of every crate, without the end-to-end tests.
fn tests() -> anyhow::Result<()> {
    // The end-to-end tests are the one test target of their package.
    const ALL_BUT_E2E: &[&str] = &["--workspace", "--exclude", "postrider-tests"];
    if has_nextest() {
        shell::run(cargo(&["nextest", "run", "--no-fail-fast"]).args(ALL_BUT_E2E))?;
        shell::run(&mut cargo(&[
            "nextest",
            "run",
            "--package=postrider-tests",
            "--lib",
            "--no-tests=pass",
        ]))
    } else {
        let test = ["test", "--no-fail-fast", "--lib", "--bins", "--tests"];
        shell::run(cargo(&test).args(ALL_BUT_E2E))?;
        shell::run(&mut cargo(&["test", "--package=postrider-tests", "--lib"]))
    }
}

/// Whether cargo-nextest is there. It runs tests in parallel over all crates, each in a process.
pub(crate) fn has_nextest() -> bool {
    exists("cargo-nextest", &["nextest", "--version"])
}
