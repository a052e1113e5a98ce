//! Plays many histories, and makes one that fails as short as it gets.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::runtime::{Builder, Runtime};

use crate::found;
use crate::kind::Kind;
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
    pub(crate) abandons: u32,
    pub(crate) kind: Kind,
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

/// Histories under way for each processor: each waits for a disk or a server much of the time.
const AT_ONCE: usize = 4;

/// A history's own runtime, so that nothing of a store outlives it. On one the store's tasks run between
/// the caller's steps, on the other beside them.
fn runtime(seed: u64) -> Runtime {
    let mut builder = match seed % 2 {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Plays the plan's histories, on all processors. A failing one is shrunk and told of with its seed.
pub(crate) fn play_all<S: Stage>(plan: Plan, stage: impl Fn() -> S + Sync) {
    let steps = number("POSTRIDER_MODEL_STEPS").map_or(plan.steps, |steps| steps as usize);
    let histories = number("POSTRIDER_MODEL_HISTORIES").unwrap_or(plan.histories);
    let (first, histories) = match number("POSTRIDER_MODEL_SEED") {
        Some(seed) => (seed, 1),
        None => (
            number("POSTRIDER_MODEL_FROM").unwrap_or_else(|| rand::random::<u32>().into()),
            histories,
        ),
    };
    let mut first_stage = stage();
    for (name, history) in found::histories() {
        let played = runtime(first).block_on(play(plan, &mut first_stage, &history));
        assert!(played.is_ok(), "{name}: {played:?}");
    }
    drop(first_stage);
    println!("{histories} histories of {steps} steps from seed {first} on");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (processors * AT_ONCE).min(histories as usize);
    let next = AtomicU64::new(0);
    let play_some = || {
        let mut stage = stage();
        loop {
            let seed = first + next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + histories {
                return Ok(());
            }
            let played = runtime(seed).block_on(play_seed(plan, steps, seed, &mut stage));
            if played.is_err() {
                next.store(histories, Ordering::Relaxed);
                return played;
            }
        }
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play_some)).collect();
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
    let Err((at, problem)) = play(plan, stage, &history).await else {
        return Ok(());
    };
    println!("seed {seed} fails at step {at}: {problem}\nshrinking...");
    let short = shrink(plan, stage, history[..=at].to_vec()).await;
    let problem = match play(plan, stage, &short).await {
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
async fn play(
    plan: Plan,
    stage: &mut impl Stage,
    history: &[Operation],
) -> Result<(), (usize, String)> {
    let mut subject = stage.fresh().await;
    let mut play = Play::new(&mut subject, plan.kind);
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
async fn shrink(plan: Plan, stage: &mut impl Stage, mut history: Vec<Operation>) -> Vec<Operation> {
    let give_up = Instant::now() + Duration::from_secs(60);
    let mut part = history.len().div_ceil(2);
    while part > 0 && Instant::now() < give_up {
        let mut from = 0;
        while from < history.len() && Instant::now() < give_up {
            let mut without = history.clone();
            without.drain(from..(from + part).min(history.len()));
            match play(plan, stage, &without).await {
                Err((at, _)) => history = without[..=at].to_vec(),
                Ok(()) => from += part,
            }
        }
        part /= 2;
    }
    history
}
