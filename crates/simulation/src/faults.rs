//! What befalls the hosts, drawn by chance: each fault begins, and ends by itself.

use std::time::Duration;

use postrider_model::Faults;
use rand::RngExt as _;
use rand::rngs::StdRng;
use turmoil::Sim;

use crate::services::World;

/// One kind of trouble.
#[derive(Debug, Clone)]
enum Trouble {
    /// A host ends without a word.
    Crash(String),
    /// A worker is told to stop, and has some time for it.
    Stop(String),
    /// What two hosts send to each other is lost.
    Partition(String, String),
    /// It arrives late.
    Hold(String, String),
    /// The store fails now and then, or not at all.
    Store(Faults),
}

/// What is wrong from when to when.
#[derive(Debug, Clone)]
struct Event {
    from: Duration,
    to: Duration,
    trouble: Trouble,
}

/// All trouble of one simulation.
pub(crate) struct Plan {
    events: Vec<(Event, bool)>,
}

impl Plan {
    /// Draws some, all over at `end`.
    pub(crate) fn draw(
        chance: &mut StdRng,
        hosts: &[String],
        workers: &[&str],
        links: &[(String, String)],
        end: Duration,
    ) -> Self {
        let count = chance.random_range(0..8);
        let events = (0..count).map(|_| {
            let from = end.mul_f64(chance.random_range(0.0..0.9));
            let longest = (end - from).min(Duration::from_secs(12));
            let to = from + longest.mul_f64(chance.random_range(0.05..1.0));
            let link = |chance: &mut StdRng| links[chance.random_range(0..links.len())].clone();
            let trouble = match chance.random_range(0..7) {
                0 | 1 => Trouble::Crash(hosts[chance.random_range(0..hosts.len())].clone()),
                2 => {
                    let (one, other) = link(chance);
                    Trouble::Partition(one, other)
                }
                3 | 4 => {
                    let (one, other) = link(chance);
                    Trouble::Hold(one, other)
                }
                5 => Trouble::Stop(workers[chance.random_range(0..workers.len())].to_owned()),
                _ => Trouble::Store(Faults {
                    refused: chance.random_range(0..300),
                    lost_answers: chance.random_range(0..300),
                    delay: Duration::from_millis(chance.random_range(0..500)),
                    away: chance.random_range(0..4) == 0,
                }),
            };
            (Event { from, to, trouble }, false)
        });
        Self {
            events: events.collect(),
        }
    }

    /// Begins and ends what is due.
    pub(crate) fn befall(&mut self, sim: &mut Sim<'_>, world: &World) {
        let ledger = &world.ledger;
        let now = sim.elapsed();
        self.events.retain_mut(|(event, begun)| {
            if !*begun && now >= event.from {
                *begun = true;
                ledger.event_at(now, &format!("{:?} begins", event.trouble));
                begin(&event.trouble, sim, world);
            }
            if *begun && now >= event.to {
                ledger.event_at(now, &format!("{:?} ends", event.trouble));
                end(&event.trouble, sim, world);
                return false;
            }
            true
        });
    }
}

fn begin(trouble: &Trouble, sim: &mut Sim<'_>, world: &World) {
    match trouble {
        Trouble::Crash(host) => sim.crash(host.as_str()),
        Trouble::Stop(worker) => world.stops.stop(worker),
        Trouble::Partition(one, other) => sim.partition(one.as_str(), other.as_str()),
        Trouble::Hold(one, other) => sim.hold(one.as_str(), other.as_str()),
        Trouble::Store(faults) => world.store.set_faults(*faults),
    }
}

fn end(trouble: &Trouble, sim: &mut Sim<'_>, world: &World) {
    match trouble {
        Trouble::Crash(host) | Trouble::Stop(host) => sim.bounce(host.as_str()),
        Trouble::Partition(one, other) => sim.repair(one.as_str(), other.as_str()),
        Trouble::Hold(one, other) => sim.release(one.as_str(), other.as_str()),
        Trouble::Store(_) => world.store.set_faults(Faults::default()),
    }
}
