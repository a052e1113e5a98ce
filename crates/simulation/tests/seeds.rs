//! A thousand seeds, and the same seed twice.
//!
//! Environment: `POSTRIDER_SIMULATION_SEEDS` (how many), `POSTRIDER_SIMULATION_FROM` (the first of them;
//! otherwise by chance), `POSTRIDER_SIMULATION_SEED` (this one only).
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn simulate(seed: u64) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postrider-simulation"))
        .arg(seed.to_string())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[test]
fn no_promise_is_broken() {
    let (first, seeds) = match number("POSTRIDER_SIMULATION_SEED") {
        Some(seed) => (seed, 1),
        None => (
            number("POSTRIDER_SIMULATION_FROM").unwrap_or_else(|| rand::random::<u32>().into()),
            number("POSTRIDER_SIMULATION_SEEDS").unwrap_or(20),
        ),
    };
    println!("{seeds} seeds from {first} on");
    let next = AtomicU64::new(first);
    let play = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return failures;
            }
            let output = simulate(seed);
            if !output.status.success() {
                failures.push(format!("seed {seed}: {}", said(&output)));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        let played = players.into_iter();
        played.flat_map(|player| player.join().unwrap()).collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds fail; repeat one with POSTRIDER_SIMULATION_SEED:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn a_seed_repeats_every_event() {
    for seed in 0..3 {
        let (once, again) = (said(&simulate(seed)), said(&simulate(seed)));
        assert!(once.contains("events"), "{once}");
        assert_eq!(once, again);
    }
}
