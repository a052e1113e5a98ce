//! One simulation from its seed: hosts, load, trouble, the time that it takes to recover, the verdict.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use postrider_config::ServerConfig;
use postrider_edge::EdgeConfig;
use postrider_model::ModelStore;
use postrider_queue::QueueConfig;
use postrider_queue::store::StoreSettings;
use postrider_tls::{ServerCertificate, TlsConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use turmoil::{Builder, Sim};

use crate::clock::SimulatedClock;
use crate::faults::Plan;
use crate::ledger::Ledger;
use crate::services::{self, World};
use crate::sink::{self, Manners};
use crate::source::{self, Load};
use crate::verdict;

/// Trouble is over by then.
const TROUBLE: Duration = Duration::from_secs(40);
/// Everything must have ended by then.
const END: Duration = Duration::from_secs(300);

const QUEUE: &str = r#"
slots_per_destination = 3
lease = "5s"
lifetime = "60s"
retry = { first = "2s", factor = 2.0, most = "10s", jitter = 0.1 }
"#;
const EDGE: &str = r#"
trusted_networks = ["0.0.0.0/0"]
tenant = "none"
"#;
const DELIVERY: &str = r#"
resolvers = ["192.168.255.255:53"]
tls = "none"
connections = 6
idle = "3s"
unreachable = "3s"
timeouts = { connect = "3s", greeting = "5s", hello = "5s", mail = "5s", rcpt = "5s", data = "5s", block = "5s", end_of_data = "5s", quit = "2s" }
"#;

/// Plays a seed.
///
/// # Errors
/// A promise was broken; the text says which.
pub(crate) fn play(seed: u64) -> Result<String> {
    let mut chance = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::default();
    let world = world(seed, folder.path(), &ledger)?;
    let mut sim = Builder::new()
        .rng_seed(chance.random())
        .tick_duration(Duration::from_millis(5))
        .simulation_duration(END + TROUBLE)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(chance.random_range(5..200)))
        .tcp_capacity(1 << 16)
        .build();
    let mut plan = hosts(&mut sim, &mut chance, &world);
    while sim.elapsed() < END {
        plan.befall(&mut sim, &world);
        sim.step().map_err(|error| anyhow!("{error}"))?;
        let problems = std::mem::take(&mut ledger.book().problems);
        ensure!(
            problems.is_empty(),
            "after {:?}: {}",
            sim.elapsed(),
            problems.join("; ")
        );
        let over = sim.elapsed() > TROUBLE && sim.elapsed().subsec_millis() < 5;
        if over && verdict::all_has_ended(&world.store) {
            break;
        }
    }
    let counts = verdict::check(&world.store, &ledger)
        .map_err(|problem| anyhow!("after {:?}: {problem}", sim.elapsed()))?;
    let (events, digest) = ledger.digest();
    Ok(format!(
        "{counts} in {:.0} s, {events} events {digest:016x}",
        sim.elapsed().as_secs_f64()
    ))
}

fn world(seed: u64, folder: &std::path::Path, ledger: &Ledger) -> Result<World> {
    let server = ServerConfig {
        hostname: "mx.here.test".to_owned(),
        domains: vec!["here.test".to_owned()],
        data_dir: folder.to_owned(),
    };
    let queue: QueueConfig = toml::from_str(QUEUE).context("the queue's section")?;
    let edge: EdgeConfig = toml::from_str(EDGE).context("the edge's section")?;
    let settings = StoreSettings {
        lease: queue.lease.0,
        slots_per_destination: queue.slots_per_destination,
        policies: queue.policies(),
        journey_retention: queue.journeys.keep.0,
        instance: "queue@simulation".to_owned(),
    };
    let clock = Arc::new(SimulatedClock::default());
    let names = ["a.test", "b.test", "c.test", "source.test"];
    let sinks = names.iter().map(|name| {
        let host = format!("sink-{}", name.split('.').next().unwrap());
        ((*name).to_owned(), host)
    });
    Ok(World {
        ledger: ledger.clone(),
        store: Arc::new(ModelStore::new(settings, clock, seed)),
        certificate: ServerCertificate::load(&TlsConfig::default(), &server.hostname, folder)?,
        delivery: DELIVERY.to_owned(),
        sinks: sinks.collect(),
        bodies: folder.join("bodies"),
        stops: services::Stops::default(),
        server,
        queue,
        edge,
    })
}

/// Sets all hosts up, and draws what befalls them.
fn hosts(sim: &mut Sim<'_>, chance: &mut StdRng, world: &World) -> Plan {
    let (queues, workers) = (["queue-0", "queue-1"], ["delivery-0", "delivery-1"]);
    for name in queues {
        let world = world.clone();
        sim.host(name, move || {
            services::queue(world.clone(), name.to_owned())
        });
    }
    for (_, host) in &world.sinks {
        let manners = match host.as_str() {
            // Where DSNs arrive.
            "sink-source" => Manners::default(),
            _ => Manners {
                defers: chance.random_range(0..200),
                refuses: chance.random_range(0..100),
                breaks_off: chance.random_range(0..100),
                dawdles: chance.random_range(0..100),
            },
        };
        let (ledger, name, seed) = (world.ledger.clone(), host.clone(), chance.random());
        sim.host(host.as_str(), move || {
            sink::serve(name.clone(), manners, seed, ledger.clone())
        });
    }
    for (name, queue) in workers.into_iter().zip(queues) {
        let world = world.clone();
        sim.host(name, move || {
            services::delivery(world.clone(), queue.to_owned(), name.to_owned())
        });
    }
    let edge_world = world.clone();
    sim.host("edge", move || {
        services::edge(edge_world.clone(), "queue-0".to_owned())
    });
    for number in 0..2 {
        let load = Load {
            edge: "edge",
            port: services::EDGE,
            messages: chance.random_range(5..40),
            domains: vec!["a.test".into(), "b.test".into(), "c.test".into()],
            sender: "sender@source.test".to_owned(),
            pause: Duration::from_millis(chance.random_range(1..1500)),
        };
        let (ledger, seed) = (world.ledger.clone(), chance.random());
        sim.client(
            format!("client-{number}"),
            source::send(load, number, seed, ledger),
        );
    }
    let link = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    let mut links = vec![link("edge", "queue-0")];
    for (worker, queue) in workers.into_iter().zip(queues) {
        links.push(link(worker, queue));
        for (_, sink) in &world.sinks {
            links.push(link(worker, sink));
        }
    }
    let mut fragile: Vec<String> = [queues, workers]
        .concat()
        .iter()
        .map(|&n| n.into())
        .collect();
    fragile.push("edge".to_owned());
    Plan::draw(chance, &fragile, &workers, &links, TROUBLE)
}
