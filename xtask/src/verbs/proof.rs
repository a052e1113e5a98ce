//! The queue's stores and the whole system, tried by the thousands: random histories against the model
//! and simulated runs, each from a seed that is printed.
//!
//! All of it is in the ordinary tests as well, in smaller numbers. Here it is built with the profile
//! `proof`, which checks as much as `dev` and is several times as fast.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use clap::Args;

use crate::peers;
use crate::report::Report;
use crate::shell::{self, cargo};

/// How much is tried; 0 leaves something out.
#[derive(Debug, Args)]
#[group(skip)] // `test` has it beside its own
pub(crate) struct Options {
    /// Histories on the embedded store.
    #[arg(long, value_name = "HISTORIES", default_value_t = 10_000)]
    embedded: u64,
    /// Histories on Redis.
    #[arg(long, value_name = "HISTORIES", default_value_t = 10_000)]
    redis: u64,
    /// Histories on Redis with the queue divided into partitions.
    #[arg(long, value_name = "HISTORIES", default_value_t = 1_000)]
    partitions: u64,
    /// Seeds of the simulation of all services.
    #[arg(long, value_name = "SEEDS", default_value_t = 1_000)]
    simulations: u64,
    /// The seed that all begin with. Without it `proof` begins anywhere; `test` always begins with the same,
    /// so that a change is judged by what it does and not by chance.
    #[arg(long, value_name = "SEED")]
    from: Option<u64>,
}

/// Where `test` begins.
const SAME_EACH_TIME: u64 = 1;

/// The verb.
///
/// # Errors
/// A section failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut report = Report::new("proof");
    report.section("peers", peers::fetch);
    sections(&mut report, options, options.from);
    report.finish()
}

/// The sections, as a part of `test`.
pub(crate) fn same_each_time(report: &mut Report, options: &Options) {
    let from = options.from.unwrap_or(SAME_EACH_TIME);
    sections(report, options, Some(from));
}

fn sections(report: &mut Report, options: &Options, from: Option<u64>) {
    if !report.section("proof, built", || {
        shell::run(test("model").args(["--test=seeds", "--no-run"]))
    }) {
        return;
    }
    let histories = ["HISTORIES", "FROM", "SEED"].map(|name| format!("POSTRIDER_MODEL_{name}"));
    let seeds = ["SEEDS", "FROM", "SEED"].map(|name| format!("POSTRIDER_SIMULATION_{name}"));
    let mut play = |section, program, count: u64, variables: &[String; 3], name| {
        let [how_many, first, only] = variables;
        if count > 0 {
            report.section(section, || {
                is_there(program, name)?;
                let mut test = test(program);
                test.env(how_many, count.to_string());
                test.env_remove(only);
                if let Some(from) = from {
                    test.env(first, from.to_string());
                }
                test.args(["--", "--nocapture", "--exact", name]);
                shell::run(&mut test)
            });
        }
    };
    play(
        "proof, embedded",
        "model",
        options.embedded,
        &histories,
        "embedded::embedded_does_what_the_model_does",
    );
    play(
        "proof, Redis",
        "model",
        options.redis,
        &histories,
        "redis::redis_does_what_the_model_does",
    );
    play(
        "proof, partitions",
        "model",
        options.partitions,
        &histories,
        "redis::redis_in_partitions_does_what_the_model_does",
    );
    play(
        "proof, simulation",
        "seeds",
        options.simulations,
        &seeds,
        "no_promise_is_broken",
    );
}

/// A test of another name would pass, since nothing would be played.
fn is_there(program: &str, name: &str) -> anyhow::Result<()> {
    let mut list = test(program);
    let all = shell::output(list.args(["--quiet", "--", "--list", "--exact", name]))?;
    ensure!(
        all.lines().any(|line| line == format!("{name}: test")),
        "there is no test {name} in {program}"
    );
    Ok(())
}

/// A test program, with the workspace's features, so that all that is built is built once.
fn test(program: &str) -> Command {
    let mut test = cargo(&["test", "--workspace", "--profile=proof"]);
    test.arg(format!("--test={program}"));
    if let Some(folder) = memory() {
        test.env("TMPDIR", folder);
    }
    test
}

/// A folder in memory. What a history stores is synced all the time, and its crashes are those of
/// processes, which no disk is needed for: waiting for one would take most of the time.
fn memory() -> Option<PathBuf> {
    const ENOUGH_KB: u64 = 200_000;
    let folder = Path::new("/dev/shm");
    let mut df = Command::new("df");
    df.args(["--output=fstype,avail", "--block-size=1K"]);
    let told = shell::output(df.arg(folder)).ok()?;
    let mut words = told.lines().last()?.split_whitespace();
    let in_memory = words.next() == Some("tmpfs");
    let free_kb: u64 = words.next()?.parse().ok()?;
    (in_memory && free_kb >= ENOUGH_KB).then(|| folder.to_owned())
}
