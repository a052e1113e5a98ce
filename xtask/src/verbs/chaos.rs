//! Random troubles under load, and what must hold all the same.

use clap::{Args, ValueEnum};

use crate::peers;
use crate::shell::{self, cargo};

/// What is hurt, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// From which troubles and load follow; a random one, which is printed, without it.
    #[arg(long)]
    seed: Option<u64>,
    /// For how long there are troubles.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Messages a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// The queue's Redis, with the services split: edge, queue x2, delivery x3.
    #[arg(long, value_enum, default_value_t = Redis::Cluster)]
    redis: Redis,
    /// One process with the embedded store instead.
    #[arg(long, value_enum, conflicts_with = "redis")]
    store: Option<Store>,
    /// Everything optimised, as users run it.
    #[arg(long)]
    release: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Redis {
    Standalone,
    Sentinel,
    Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    Embedded,
}

/// The verb.
///
/// # Errors
/// Something did not hold; the folder with all logs is named.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    peers::fetch()?;
    build(options.release)?;
    let mut arguments = vec![
        format!("--seconds={}", options.seconds),
        format!("--rate={}", options.rate),
    ];
    if let Some(seed) = options.seed {
        arguments.push(format!("--seed={seed}"));
    }
    arguments.push(match (options.store, options.redis) {
        (Some(Store::Embedded), _) => "--store=embedded".to_owned(),
        (None, Redis::Standalone) => "--redis=standalone".to_owned(),
        (None, Redis::Sentinel) => "--redis=sentinel".to_owned(),
        (None, Redis::Cluster) => "--redis=cluster".to_owned(),
    });
    start(options.release, &arguments)
}

/// Short runs, for `cargo xtask test`: fixed seeds, and random ones that are printed.
///
/// # Errors
/// Something did not hold.
pub(crate) fn short() -> anyhow::Result<()> {
    build(false)?;
    for arguments in [
        ["--redis=standalone", "--seconds=12", "--seed=1"].as_slice(),
        &["--redis=standalone", "--seconds=10"],
        &["--redis=cluster", "--seconds=20", "--seed=4"],
        &["--store=embedded", "--seconds=8"],
    ] {
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        start(false, &arguments)?;
    }
    Ok(())
}

fn build(release: bool) -> anyhow::Result<()> {
    let mut build = cargo(&["build", "--workspace", "--bins", "--quiet"]);
    shell::run(build.args(release.then_some("--release")))
}

fn start(release: bool, arguments: &[String]) -> anyhow::Result<()> {
    let mut run = cargo(&["run", "--quiet", "--package=postrider-tests"]);
    run.args(["--example", "chaos"])
        .args(release.then_some("--release"));
    shell::run(run.arg("--").args(arguments))
}
