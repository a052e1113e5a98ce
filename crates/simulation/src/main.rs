//! Plays one scenario of a whole mail system on a simulated clock and network. For tests only.
//!
//! ```text
//! postrider-simulation SEED...
//! POSTRIDER_SIMULATION_TRACE=1 postrider-simulation SEED
//! ```
//! Each seed is played in a process of its own, because clocks and randomness are replaced for all of
//! it: the same program and seed give the same events, to the last one. Prints a line a seed with the
//! digest of its events; the exit status is 1 if a promise was broken.
//!
//! The services are the real ones, with their own code: an edge, two queue services that share a
//! store, two delivery workers, talking SMTP and gRPC. [`network`] is what they are given in place of
//! sockets, `postrider_model::ModelStore` in place of Redis. Around them are a [`source`] of
//! mail and [`sink`]s that take it, well or badly, and [`faults`] that befall all of it. [`ledger`] keeps
//! what was promised and what arrived, and [`verdict`] compares.
#![allow(clippy::unwrap_used)]

mod clock;
mod faults;
mod ledger;
mod network;
mod scenario;
mod services;
mod sink;
mod source;
mod verdict;

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Set in the process that plays.
const INSIDE: &str = "POSTRIDER_SIMULATION_INSIDE";
/// Set to see every event, and what the services log.
const TRACE: &str = "POSTRIDER_SIMULATION_TRACE";

fn main() -> ExitCode {
    let seeds: Vec<u64> = std::env::args()
        .skip(1)
        .map(|seed| seed.parse().expect("a seed is a number"))
        .collect();
    if seeds.is_empty() {
        eprintln!("which seed?");
        return ExitCode::FAILURE;
    }
    if std::env::var_os(INSIDE).is_some() {
        return play(seeds[0]);
    }
    seeds.into_iter().fold(ExitCode::SUCCESS, |so_far, seed| {
        let played = alone(seed).status();
        if played.expect("setarch (util-linux) runs").success() {
            so_far
        } else {
            ExitCode::FAILURE
        }
    })
}

/// A process for one seed. Its addresses are the same every time: some hash tables take their seeds
/// from there, and with them the order of what they hold. Arguments and environment lie at the
/// bottom of the stack and move all that is above, so they are of one length, whoever calls from where.
fn alone(seed: u64) -> Command {
    const LENGTH: usize = 8192;
    let program = std::env::current_exe().unwrap();
    let seed = seed.to_string();
    let traced = std::env::var_os(TRACE).is_some();
    // The path is there twice: as the first argument, and as what the kernel has executed.
    let used = 2 * program.as_os_str().len() + seed.len();
    let mut command = Command::new("setarch");
    command
        .arg("--addr-no-randomize")
        .arg(program)
        .arg(seed)
        .env_clear()
        .env(INSIDE, "x".repeat(LENGTH.saturating_sub(used)))
        .env(TRACE, if traced { "1" } else { "0" });
    command
}

/// Whether everything is to be told.
fn is_traced() -> bool {
    std::env::var_os(TRACE).is_some_and(|value| value == "1")
}

/// Tasks that panicked. A runtime goes on without them, and so would the simulation.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        tell(panic);
    }));
}

fn play(seed: u64) -> ExitCode {
    count_panics();
    if is_traced() {
        clock::trace();
    }
    // From here on every clock and every source of randomness of this process is the simulation's.
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    let played = scenario::play(seed).and_then(|summary| {
        ensure!(PANICS.load(Ordering::Relaxed) == 0, "something panicked");
        Ok(summary)
    });
    match played {
        Ok(summary) => {
            println!("seed {seed}: {summary}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("seed {seed} FAILS: {problem}");
            ExitCode::FAILURE
        }
    }
}
