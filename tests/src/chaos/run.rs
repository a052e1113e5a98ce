//! One run: starts the system, loads it, does what the plan says, heals everything, and gathers
//! the history.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::database::{Database, Layout};
use super::history::{Deaf, History};
use super::journeys::Operator;
use super::pauses::Pauses;
use super::plan::{self, Targets, Trouble, What};
use super::proxy::Proxy;
use super::sinks::{Mood, Sinks};
use super::sources::{Pace, SENDER, Sources};
use super::system::{self, Node};
use crate::peers;

/// Destinations besides the one of the DSNs.
const DOMAINS: usize = 5;
/// Connections that a destination may have.
const SLOTS: usize = 4;
/// Short, so that many end in a run, and long for a machine that does other things besides.
const LEASE: Duration = Duration::from_secs(3);
/// For everything to come to its end once all is healed.
const DRAIN: Duration = Duration::from_secs(60);

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// From which the plan and the load follow.
    pub seed: u64,
    /// How long troubles are made.
    pub length: Duration,
    /// Split with this Redis; without one, one process with the embedded store.
    pub redis: Option<Layout>,
    /// Messages a second.
    pub rate: u32,
}

/// What a run gives.
#[derive(Debug)]
pub struct Outcome {
    /// For the checker.
    pub history: History,
    /// What was done, in order.
    pub timeline: Vec<String>,
    /// Figures, in words.
    pub summary: String,
}

/// The system under test, with everything around it.
struct World {
    started: Instant,
    nodes: Vec<Node>,
    links: Vec<(String, Proxy)>,
    sinks: Sinks,
    database: Option<Database>,
    queue: SocketAddr,
    entrance: SocketAddr,
    timeline: Vec<String>,
    deaf: Vec<Deaf>,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Runs, with everything that it writes below `dir`.
///
/// # Errors
/// The system does not start, or cannot be asked at the end.
pub async fn run(options: &Options, dir: &Path) -> anyhow::Result<Outcome> {
    let mut world = World::start(options, dir).await?;
    let pace = Pace {
        connections: 10,
        rate: options.rate,
        domains: domains(),
        seed: options.seed,
    };
    world.note("everything is up; the load begins".to_owned());
    let sources = Sources::start(world.entrance, &pace);
    let pauses = Pauses::watch(world.started);
    let targets = Targets {
        nodes: world.nodes.len(),
        links: world.links.len(),
        sinks: world.sinks.domains.len(),
        database: world.database.as_ref().map(Database::away),
        lease: LEASE,
    };
    let troubles = plan::plan(options.seed, options.length, &targets);
    world.trouble(&troubles, options.length).await?;
    let promotions = world.promotions(&troubles)?;
    world.heal()?;
    let heard = sources.finish().await;
    let operator = Operator::of(world.queue)?;
    let counts = operator.drained(DRAIN).await?;
    world.note(format!("{} recipients are open", counts.open));
    if counts.open > 0 {
        for line in operator.open().await {
            world.note(format!("open: {line}"));
        }
    }
    let paused = pauses.end();
    for (from, to) in &paused {
        world.note(format!("the machine stood still from {from:?} to {to:?}"));
        world.everybody_was_deaf(*from, *to);
    }
    let (arrivals, crowds, connections) = world.sinks.recorded();
    let ids = heard.accepted.iter().map(|accepted| &accepted.queue_id);
    let ids = ids.chain(arrivals.iter().map(|arrival| &arrival.queue_id));
    // A message of which no recipient was taken, and whose source never heard, is only named there.
    let reports = arrivals
        .iter()
        .filter_map(|arrival| arrival.report.as_ref());
    let ids = ids.chain(reports.map(|report| &report.about));
    let journeys = operator.journeys(ids.cloned()).await?;
    let summary = format!(
        "{} messages accepted, {} setbacks at the sources ({} sessions cut), {} arrivals over {connections} connections, \
         {} troubles, {promotions} promotions, {} moments over the slots; {counts:?}",
        heard.accepted.len(),
        heard.setbacks,
        heard.cut,
        arrivals.len(),
        troubles.len(),
        crowds.len(),
    );
    let history = History {
        lease: LEASE,
        slots: SLOTS,
        accepted: heard.accepted,
        unanswered: heard.unanswered,
        refused: heard.refused,
        given_up: heard.given_up,
        arrivals,
        crowds,
        deaf: std::mem::take(&mut world.deaf),
        journeys,
        counts,
    };
    for node in &mut world.nodes {
        node.stop(Duration::from_secs(45))
            .with_context(|| format!("the gentle stop of {}", node.name))?;
        if let Some(panic) = node.panic()? {
            bail!("{}: {panic}", node.name);
        }
    }
    Ok(Outcome {
        history,
        timeline: world.timeline,
        summary,
    })
}

fn domains() -> Vec<String> {
    (0..DOMAINS).map(|n| format!("d{n}.test")).collect()
}

impl World {
    async fn start(options: &Options, dir: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut all = domains();
        let (_, origin) = SENDER.split_once('@').context("the sender's domain")?;
        all.push(origin.to_owned());
        let sinks = Sinks::start(&all, SLOTS, started).await?;
        let database = options
            .redis
            .map(|layout| Database::start(layout, dir))
            .transpose()?;
        let mut world = Self {
            started,
            nodes: Vec::new(),
            links: Vec::new(),
            sinks,
            database,
            queue: local(peers::free_port()),
            entrance: local(0),
            timeline: Vec::new(),
            deaf: Vec::new(),
        };
        let edge = peers::free_port();
        if world.database.is_some() {
            world.configure_split(dir, edge).await?;
        } else {
            world.configure_one_process(dir, edge)?;
        }
        let entrance = world.link("source to edge", vec![local(edge)]).await?;
        world.entrance = entrance;
        for node in &mut world.nodes {
            node.start()?;
        }
        system::wait_until_ready(&mut world.nodes, Duration::from_secs(60))?;
        Ok(world)
    }

    async fn link(&mut self, name: &str, to: Vec<SocketAddr>) -> anyhow::Result<SocketAddr> {
        let proxy = Proxy::start(to).await?;
        let address = proxy.address;
        self.links.push((name.to_owned(), proxy));
        Ok(address)
    }

    fn configure_one_process(&mut self, dir: &Path, edge: u16) -> anyhow::Result<()> {
        let text = [
            system::services(self.queue, self.queue, peers::free_port()),
            system::edge(edge),
            system::queue("embedded", LEASE, SLOTS, &dir.join("bodies")),
            system::delivery(&self.sinks.domains),
        ]
        .concat();
        self.nodes
            .push(Node::new(dir, "postrider", "postrider", &text)?);
        Ok(())
    }

    /// Edge, two queues, three delivery workers and the mailboxes, with a proxy on every way between.
    async fn configure_split(&mut self, dir: &Path, edge: u16) -> anyhow::Result<()> {
        let queues = [self.queue, local(peers::free_port())];
        let mailbox = peers::free_port();
        for (n, listen) in (1..).zip(queues) {
            let database = self.database.as_ref().context("a database")?;
            let proxied = match database.address() {
                Some(address) => Some(
                    self.link(&format!("queue-{n} to redis"), vec![address])
                        .await?,
                ),
                None => None,
            };
            let redis = self.database.as_ref().map(|one| one.config(proxied));
            let text = [
                system::services(listen, listen, mailbox),
                system::queue("redis", LEASE, SLOTS, &dir.join("bodies")),
                redis.unwrap_or_default(),
            ]
            .concat();
            self.nodes.push(Node::new(
                dir,
                &format!("queue-{n}"),
                "postrider-queue",
                &text,
            )?);
        }
        let way = self.link("edge to queue", queues.to_vec()).await?;
        let text = [
            system::services(way, local(peers::free_port()), mailbox),
            system::edge(edge),
        ]
        .concat();
        self.nodes
            .push(Node::new(dir, "edge", "postrider-edge", &text)?);
        for n in 1..=3 {
            // Each prefers another one.
            let mut order = queues.to_vec();
            order.rotate_left(n % 2);
            let way = self.link(&format!("delivery-{n} to queue"), order).await?;
            let text = [
                system::services(way, local(peers::free_port()), mailbox),
                system::delivery(&self.sinks.domains),
            ]
            .concat();
            self.nodes.push(Node::new(
                dir,
                &format!("delivery-{n}"),
                "postrider-delivery",
                &text,
            )?);
        }
        let text = system::services(way, local(peers::free_port()), mailbox);
        self.nodes
            .push(Node::new(dir, "mailbox", "postrider-mailbox", &text)?);
        Ok(())
    }

    fn note(&mut self, what: String) {
        let at = self.started.elapsed().as_secs_f64();
        self.timeline.push(format!("{at:8.3}  {what}"));
    }

    /// Makes the troubles and ends them.
    async fn trouble(&mut self, troubles: &[Trouble], length: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut actions: Vec<(Duration, bool, What)> = troubles
            .iter()
            .flat_map(|one| {
                [
                    (one.at, true, one.what),
                    (one.at + one.lasts, false, one.what),
                ]
            })
            .collect();
        // Stable: what lasts for no time begins before it ends.
        actions.sort_by_key(|(at, _, _)| *at);
        for (at, begins, what) in actions {
            tokio::time::sleep_until((begun + at).into()).await;
            self.supervise()?;
            if begins {
                self.begin(what)?;
            } else {
                self.end(what)?;
            }
        }
        tokio::time::sleep_until((begun + length).into()).await;
        Ok(())
    }

    fn whom(&self, what: What) -> String {
        match what {
            What::Kill(node) | What::Stop(node) | What::Pause(node) => {
                self.nodes[node].name.clone()
            }
            What::Cut(link)
            | What::CutAfter(link, _)
            | What::Delay(link, _)
            | What::Stall(link) => self.links[link].0.clone(),
            What::Mood(sink, _) => self.sinks.domains[sink].0.clone(),
            What::Database | What::PauseDatabase => "redis".to_owned(),
        }
    }

    fn begin(&mut self, what: What) -> anyhow::Result<()> {
        self.note(format!("{}: {what}", self.whom(what)));
        match what {
            What::Kill(node) => self.nodes[node].kill(),
            What::Stop(node) => self.nodes[node].tell_to_stop()?,
            What::Pause(node) => self.nodes[node].signal("STOP")?,
            What::Database => {
                if let Some(database) = &mut self.database {
                    let victim = database.take_away(false)?;
                    self.note(format!("killed {victim}"));
                }
            }
            What::PauseDatabase => {
                if let Some(database) = &mut self.database {
                    let victim = database.take_away(true)?;
                    self.note(format!("stopped {victim}"));
                }
            }
            What::Cut(link) => self.links[link].1.cut(),
            What::CutAfter(link, bytes) => self.links[link].1.cut_after(bytes),
            What::Delay(link, delay) => self.links[link].1.delay(delay),
            What::Stall(link) => self.links[link].1.stall(),
            What::Mood(sink, mood) => self.sinks.set_mood(sink, mood),
        }
        // Whoever stands still cannot know that its leases have ended.
        if let What::Pause(node) = what {
            let from = self.started.elapsed();
            self.deaf.push(Deaf {
                worker: self.nodes[node].name.clone(),
                from,
                to: Duration::MAX / 2,
            });
        }
        Ok(())
    }

    fn end(&mut self, what: What) -> anyhow::Result<()> {
        if !matches!(what, What::Cut(_)) {
            self.note(format!("{}: end of {what}", self.whom(what)));
        }
        match what {
            What::Kill(node) | What::Stop(node) => self.nodes[node].start()?,
            What::Pause(node) => {
                self.nodes[node].signal("CONT")?;
                let now = self.started.elapsed();
                let name = &self.nodes[node].name;
                for deaf in self.deaf.iter_mut().filter(|one| one.worker == *name) {
                    deaf.to = deaf.to.min(now);
                }
            }
            What::Database | What::PauseDatabase => {
                if let Some(database) = &mut self.database
                    && let Some(masters) = database.bring_back()?
                {
                    self.note(format!(
                        "redis: another one has taken over; masters: {masters}"
                    ));
                }
            }
            What::Cut(_) => {}
            What::CutAfter(link, _) | What::Delay(link, _) | What::Stall(link) => {
                self.links[link].1.heal();
            }
            What::Mood(sink, _) => self.sinks.set_mood(sink, Mood::Good),
        }
        Ok(())
    }

    /// How often another server has taken over.
    fn promotions(&self, troubles: &[Trouble]) -> anyhow::Result<u32> {
        let Some(database) = &self.database else {
            return Ok(0);
        };
        let is_away = |one: &Trouble| matches!(one.what, What::Database | What::PauseDatabase);
        let planned = database.fails_over() && troubles.iter().any(is_away);
        let seen = database.promotions();
        ensure!(
            seen > 0 || !planned,
            "no server has taken over from one that was away"
        );
        Ok(seen)
    }

    /// Nobody can close a connection in time on a machine that stands still.
    fn everybody_was_deaf(&mut self, from: Duration, to: Duration) {
        for node in &self.nodes {
            let worker = node.name.clone();
            self.deaf.push(Deaf { worker, from, to });
        }
    }

    fn supervise(&mut self) -> anyhow::Result<()> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].supervise()? {
                let name = self.nodes[at].name.clone();
                self.note(format!("{name}: found no store and is started again"));
            }
        }
        Ok(())
    }

    /// The plan has ended every trouble. Everything has to come to itself.
    fn heal(&mut self) -> anyhow::Result<()> {
        self.note("every trouble has ended".to_owned());
        system::wait_until_ready(&mut self.nodes, Duration::from_secs(60))?;
        self.note("everything is ready".to_owned());
        Ok(())
    }
}
