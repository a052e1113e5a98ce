//! What developers and the CI call: `cargo xtask <verb>`. Without a verb it lists them.
//!
//! Each verb is a file of `verbs/`. [`shell`] runs programs, [`report`] times the sections of a
//! longer run, [`packages`] names every Debian package that the tests need, and [`peers`] brings
//! them in.

mod packages;
mod peers;
mod report;
mod shell;
mod verbs;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

/// What developers and the CI call.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Everything that must hold: lints, all tests, the documentation, end to end. What the CI runs.
    Test(verbs::test::Options),
    /// Format, clippy, banned dependencies.
    Lint,
    /// The whole system against real peers and clients.
    E2e(verbs::e2e::Options),
    /// Load Postrider and Postfix in turn, and compare.
    Bench(verbs::bench::Options),
    /// Real processes under load, killed, stopped and cut off at random; nothing may be lost.
    Chaos(verbs::chaos::Options),
    /// Random histories on the stores and simulated runs of all services, by the thousands.
    Proof(verbs::proof::Options),
    /// Feed a fuzz target with what it has never seen.
    Fuzz(verbs::fuzz::Options),
    /// What earlier releases said and stored is still understood; record what a release adds.
    Compatibility(verbs::compatibility::Options),
    /// Write docs/config.md, docs/postrider.toml and docs/metrics.md from the code.
    Docs(verbs::docs::Options),
    /// Two mail servers, a DNS, and one message on its way, drawn live.
    Demo(verbs::demo::Options),
    /// Build the release binaries, and say what it took.
    Build,
    /// Fetch the Debian packages that the tests need, without starting anything.
    Peers,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        None => Arguments::command().print_help().context("help"),
        Some(Verb::Test(options)) => verbs::test::run(&options),
        Some(Verb::Lint) => verbs::lint::run(),
        Some(Verb::E2e(options)) => verbs::e2e::run(&options),
        Some(Verb::Bench(options)) => verbs::bench::run(&options),
        Some(Verb::Chaos(options)) => verbs::chaos::run(&options),
        Some(Verb::Proof(options)) => verbs::proof::run(&options),
        Some(Verb::Fuzz(options)) => verbs::fuzz::run(&options),
        Some(Verb::Compatibility(options)) => verbs::compatibility::run(&options),
        Some(Verb::Docs(options)) => verbs::docs::run(&options),
        Some(Verb::Demo(options)) => verbs::demo::run(&options),
        Some(Verb::Build) => verbs::build::run(),
        Some(Verb::Peers) => peers::fetch(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
