//! Everything that must hold.

use std::process::Command;

use clap::Args;

use super::{chaos, docs, e2e, lint, proof};
use crate::peers;
use crate::report::Report;
use crate::shell::{self, cargo, exists};

/// What of it to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out the proof, the end-to-end tests and chaos, which take the longest.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    proof: proof::Options,
}

/// Runs every section, whatever the others say.
///
/// # Errors
/// A section failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut report = Report::new("test");
    report.section("peers", peers::fetch);
    lint::sections(&mut report);
    report.section("tests", || tests(options.quick));
    report.section("doc tests", || {
        shell::run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))
    });
    report.section("documentation", || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
        shell::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    report.section("docs are up to date", docs::check);
    if !options.quick {
        proof::same_each_time(&mut report, &options.proof);
        report.section("end to end", || e2e::tests(&[]));
        report.section("chaos", chaos::short);
    }
    report.finish()
}

/// Unit and integration tests of every crate, without the end-to-end tests. What the proof plays by the
/// thousands is only played at all here, if that follows.
fn tests(without_proof: bool) -> anyhow::Result<()> {
    // The end-to-end tests are the one test target of their package.
    const ALL_BUT_E2E: &[&str] = &["--workspace", "--exclude", "postrider-tests"];
    let few = |test: &mut Command| {
        test.args(ALL_BUT_E2E);
        if !without_proof {
            test.env("POSTRIDER_MODEL_HISTORIES", "20");
            test.env("POSTRIDER_SIMULATION_SEEDS", "2");
        }
        shell::run(test)
    };
    if has_nextest() {
        few(&mut cargo(&["nextest", "run", "--no-fail-fast"]))?;
        shell::run(&mut cargo(&[
            "nextest",
            "run",
            "--package=postrider-tests",
            "--lib",
            "--no-tests=pass",
        ]))
    } else {
        let test = ["test", "--no-fail-fast", "--lib", "--bins", "--tests"];
        few(&mut cargo(&test))?;
        shell::run(&mut cargo(&["test", "--package=postrider-tests", "--lib"]))
    }
}

/// Whether cargo-nextest is there. It runs tests in parallel over all crates, each in a process.
pub(crate) fn has_nextest() -> bool {
    exists("cargo-nextest", &["nextest", "--version"])
}
