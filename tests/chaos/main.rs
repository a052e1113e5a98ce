//! Chaos under load, for `cargo xtask chaos`.
//!
//! `chaos [--seed N] [--seconds S] [--redis standalone|sentinel|cluster] [--store embedded] [--rate N]`

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use postrider_tests::chaos::checker;
use postrider_tests::chaos::database::Layout;
use postrider_tests::chaos::run::{self, Options};

fn main() -> anyhow::Result<()> {
    let options = read(std::env::args().skip(1))?;
    // It is about processes and networks: a disk that others keep busy would only hide what it is
    // about behind leases that end because of that.
    let memory = Path::new("/dev/shm");
    let root = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    let dir = tempfile::Builder::new()
        .prefix("postrider-chaos-")
        .tempdir_in(root)?;
    println!(
        "seed {}, {} s, {}",
        options.seed,
        options.length.as_secs(),
        match options.redis {
            None => "one process, embedded store".to_owned(),
            Some(layout) => format!("split, redis {layout:?}").to_lowercase(),
        }
    );
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = match runtime.block_on(run::run(&options, dir.path())) {
        Ok(outcome) => outcome,
        Err(error) => bail!("{error:#}; everything is in {}", dir.keep().display()),
    };
    for line in &outcome.timeline {
        println!("{line}");
    }
    println!("{}", outcome.summary);
    let problems = checker::check(&outcome.history);
    if problems.is_empty() {
        println!("everything holds");
        return Ok(());
    }
    for problem in &problems {
        println!("PROBLEM: {problem}");
    }
    let kept = dir.keep();
    std::fs::write(kept.join("history.txt"), format!("{:#?}", outcome.history))?;
    std::fs::write(kept.join("timeline.txt"), outcome.timeline.join("\n"))?;
    bail!(
        "{} problems with seed {}; logs, timeline and history are in {}",
        problems.len(),
        options.seed,
        kept.display()
    )
}

fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options {
        seed: rand::random_range(0..1_000_000),
        length: Duration::from_secs(60),
        redis: Some(Layout::Cluster),
        rate: 50,
    };
    while let Some(argument) = arguments.next() {
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), value.to_owned()),
            None => {
                let value = arguments.next();
                let value = value.with_context(|| format!("{argument} needs a value"))?;
                (argument, value)
            }
        };
        let number = || {
            let problem = || format!("{flag} {value}: not a number");
            value.parse::<u64>().with_context(problem)
        };
        match (flag.as_str(), value.as_str()) {
            ("--seed", _) => options.seed = number()?,
            ("--seconds", _) => options.length = Duration::from_secs(number()?),
            ("--rate", _) => options.rate = u32::try_from(number()?)?,
            ("--redis", "standalone") => options.redis = Some(Layout::Standalone),
            ("--redis", "sentinel") => options.redis = Some(Layout::Sentinel),
            ("--redis", "cluster") => options.redis = Some(Layout::Cluster),
            ("--store", "embedded") => options.redis = None,
            _ => bail!("{flag} {value} is not known"),
        }
    }
    Ok(options)
}
