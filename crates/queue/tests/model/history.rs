//! Plays many histories, and makes one that fails as short as it gets.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::operation::{Dice, Operation};
use crate::play::Play;
use crate::subject::Subject;

/// How many, how long, how often things break.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) histories: u64,
    pub(crate) steps: usize,
    /// Chances in thousandths.
    pub(crate) crashes: u32,
    pub(crate) server_crashes: u32,
    pub(crate) faults: u32,
}

/// Makes new, empty stores.
pub(crate) trait Stage {
    type Subject: Subject;
    async fn fresh(&mut self) -> Self::Subject;
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
    )
}

/// Plays the plan's histories, on as many threads as there are processors. A failing one is shrunk
/// and told of with its seed.
pub(crate) fn play_all<S: Stage>(plan: Plan, stage: impl Fn() -> S + Sync) {
    let steps = number("POSTRIDER_MODEL_STEPS").map_or(plan.steps, |steps| steps as usize);
    let histories = number("POSTRIDER_MODEL_HISTORIES").unwrap_or(plan.histories);
    let (first, histories) = match number("POSTRIDER_MODEL_SEED") {
        Some(seed) => (seed, 1),
        None => (rand::random::<u32>().into(), histories),
    };
    println!("{histories} histories of {steps} steps from seed {first} on");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let play_some = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut stage = stage();
        loop {
            let seed = first + next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + histories {
                return Ok(());
            }
            let played = runtime.block_on(play_seed(plan, steps, seed, &mut stage));
            if played.is_err() {
                next.store(histories, Ordering::Relaxed);
                return played;
            }
        }
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads.min(histories as usize))
            .map(|_| scope.spawn(play_some))
            .collect();
        let played = players.into_iter().map(|player| player.join().unwrap());
        played.filter_map(Result::err).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

async fn play_seed(
    plan: Plan,
    steps: usize,
    seed: u64,
    stage: &mut impl Stage,
) -> Result<(), String> {
    let mut dice = Dice::new(StdRng::seed_from_u64(seed), plan);
    let history: Vec<Operation> = (0..steps).map(|_| dice.roll()).collect();
    let Err((at, problem)) = play(stage, &history).await else {
        return Ok(());
    };
    println!("seed {seed} fails at step {at}: {problem}\nshrinking...");
    let short = shrink(stage, history[..=at].to_vec()).await;
    let problem = match play(stage, &short).await {
        Err((_, problem)) => problem,
        Ok(()) => format!("{problem}, but not every time"),
    };
    let lines: Vec<String> = short.iter().map(|step| format!("  {step:?}")).collect();
    Err(format!(
        "{problem}\nby these {} operations:\n{}\n\
         repeat with POSTRIDER_MODEL_SEED={seed} POSTRIDER_MODEL_STEPS={steps}",
        lines.len(),
        lines.join("\n")
    ))
}

/// Plays one history; where and why it fails. A panic is a failure like any other.
async fn play(stage: &mut impl Stage, history: &[Operation]) -> Result<(), (usize, String)> {
    let mut subject = stage.fresh().await;
    let mut play = Play::new(&mut subject);
    for (at, operation) in history.iter().enumerate() {
        let step = async {
            play.step(operation).await?;
            if at + 1 == history.len() {
                play.compare_journeys().await?;
            }
            Ok::<(), String>(())
        };
        let outcome = match AssertUnwindSafe(step).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => Err(format!("panic: {}", said(panic.as_ref()))),
        };
        outcome.map_err(|problem| (at, format!("{operation:?}: {problem}")))?;
    }
    Ok(())
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
}

/// Leaves out ever smaller parts, as long as what remains still fails.
async fn shrink(stage: &mut impl Stage, mut history: Vec<Operation>) -> Vec<Operation> {
    let give_up = Instant::now() + Duration::from_secs(60);
    let mut part = history.len().div_ceil(2);
    while part > 0 && Instant::now() < give_up {
        let mut from = 0;
        while from < history.len() && Instant::now() < give_up {
            let mut without = history.clone();
            without.drain(from..(from + part).min(history.len()));
            match play(stage, &without).await {
                Err((at, _)) => history = without[..=at].to_vec(),
                Ok(()) => from += part,
            }
        }
        part /= 2;
    }
    history
}
