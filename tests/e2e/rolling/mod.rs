//! Every service is restarted, one process after the other, as an orchestrator does with a new release:
//! SIGTERM, and once it has ended, a new one. Under load; and nobody outside is worse off.

mod client;
mod cluster;
mod held;
mod mail;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_tests::chaos::journeys::Operator;
use postrider_tests::sink::Sink;
use tokio::sync::watch;

use self::cluster::Cluster;
use self::held::{Fate, Held};
use self::mail::Ledger;

/// Clients that send one message after another.
const SOURCES: usize = 12;
const PAUSE: Duration = Duration::from_millis(40);
/// The sink takes its time to answer the final dot, so that attempts are in hand at any moment.
const SLOW: Duration = Duration::from_millis(40);
/// What the longest session needs to end, with a good margin, and well below the drain's time-out of
/// an edge: nobody waits that out.
const PROMPT: Duration = Duration::from_secs(12);

/// No message refused for good, no session dropped without a 421, no open DATA cut off before its
/// reply, none lost, no duplicate.
#[test]
fn a_rolling_restart_is_not_felt_outside() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(restart_everything());
}

async fn restart_everything() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start_slow(SLOW).await.unwrap();
    let mut cluster = Cluster::start(dir.path(), sink.address).await.unwrap();
    let ledger = Arc::new(Ledger::default());
    let (stop, stopped) = watch::channel(false);
    let sources: Vec<_> = (0..SOURCES)
        .map(|_| {
            let servers = cluster.edges.to_vec();
            let source = mail::source(ledger.clone(), servers, stopped.clone(), PAUSE);
            tokio::spawn(source)
        })
        .collect();

    let mut left = Vec::new();
    for victim in 0..cluster.nodes.len() {
        left.extend(restart(&mut cluster, &ledger, victim).await);
    }
    stop.send_replace(true);
    for source in sources {
        source.await.unwrap();
    }
    let mut client = None;
    for number in left {
        mail::send(&ledger, &cluster.edges, &mut client, number).await;
    }
    verdict(&cluster, &ledger, &sink).await;
}

/// Restarts one process, and gives what the sessions that were open meanwhile could not send.
async fn restart(cluster: &mut Cluster, ledger: &Arc<Ledger>, victim: usize) -> Vec<u64> {
    let name = cluster.nodes[victim].name.clone();
    let edges: Vec<_> = match name.as_str() {
        "edge-1" => vec![(cluster.edges[0], Fate::Told)],
        "edge-2" => vec![(cluster.edges[1], Fate::Told)],
        _ => cluster.edges.map(|edge| (edge, Fate::Lives)).to_vec(),
    };
    let mut held = Vec::new();
    for (edge, fate) in edges {
        held.push((Held::open(ledger, edge).await.unwrap(), fate));
    }
    held.iter().for_each(|(held, _)| held.stopping());
    let stopped = Instant::now();
    cluster.stop(victim).unwrap();
    let took = stopped.elapsed();
    cluster.start_again(victim).unwrap();
    println!("{name}: {took:?} to stop, {:?} in all", stopped.elapsed());
    if took > PROMPT {
        ledger.complain(format!("{name} took {took:?} to stop"));
    }
    let mut left = Vec::new();
    for (held, fate) in held {
        left.extend(held.finish(fate).await.unwrap());
    }
    left
}

async fn verdict(cluster: &Cluster, ledger: &Ledger, sink: &Sink) {
    let operator = Operator::of(cluster.queue).unwrap();
    let counts = operator.drained(Duration::from_secs(60)).await.unwrap();
    let told = ledger.told();
    println!(
        "{} messages, {} times put off, {} times nobody there; {counts:?}",
        told.accepted.len(),
        told.put_off,
        told.away,
    );
    let logs = || cluster.logs();
    assert!(told.broken.is_empty(), "{:#?}{}", told.broken, logs());
    let all: BTreeSet<u64> = (0..ledger.numbers()).collect();
    assert_eq!(told.accepted, all, "refused for good");

    let here = cluster.delivered_here().unwrap();
    let there = &sink.counts;
    let arrived = |number: &u64| there.arrival(*number).is_some() || here.contains_key(number);
    let lost: Vec<&u64> = all.iter().filter(|number| !arrived(number)).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}{}", logs());
    let mut twice = there.repeated();
    twice.extend(here.into_iter().filter(|(_, times)| *times > 1));
    assert!(twice.is_empty(), "more than once: {twice:?}{}", logs());
    assert_eq!(there.damaged(), 0);

    assert_eq!(there.unnumbered(), 0, "a bounce went out");
    let count = u64::try_from(all.len()).unwrap();
    assert_eq!(counts.delivered, count, "{counts:?}");
    assert_eq!((counts.failed, counts.unknown, counts.open), (0, 0, 0));
}
