//! One partition: its connections and its batches.

use std::sync::Arc;

use anyhow::Context as _;
use redis::{Value, cmd};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::complete::{self, Completer};
use super::config::{Durability, RedisConfig, RedisKind};
use super::connect::{Connected, Connector};
use super::content::Recent;
use super::core::{self, Core};
use super::enqueue::{self, Enqueuer};
use super::hint::Hint;
use super::inspect::Unfit;
use super::keys::{LAYOUT, Names};
use super::lease::Asked;
use super::left;
use super::link::Link;
use super::locate::Locator;
use super::partition::{self, Partitions};
use super::pull::{self, Puller};
use super::script::{Scripts, TimeSource};
use super::wake::{self, Ear};
use crate::store::{StoreSettings, Wake};

/// A partition as one process works with it.
pub(super) struct Part {
    pub(super) core: Arc<Core>,
    pub(super) enqueuer: Enqueuer,
    pub(super) puller: Puller,
    pub(super) completer: Completer,
    pub(super) hint: Arc<Hint>,
    /// Where this process goes on with the outbox.
    pub(super) outbox: left::Place,
    /// The same with deliveries that leave for other partitions.
    pub(super) leaving: left::Place,
}

/// Opens all partitions, after making sure of their number.
pub(super) async fn open_all(
    config: &RedisConfig,
    settings: &StoreSettings,
    time: &TimeSource,
    wakes: &broadcast::Sender<Wake>,
    closed: &CancellationToken,
) -> anyhow::Result<(Partitions, Vec<Part>)> {
    let locator = Arc::new(Locator::new(config)?);
    let partitions = layout(config, &locator).await?;
    let shared = Shared {
        scripts: Arc::new(Scripts::new(time)),
        rules: core::rules(&settings.policies).into(),
        recent: Arc::new(Recent::new(
            usize::try_from(config.cache.0).unwrap_or(usize::MAX),
        )),
    };
    let opened = (0..partitions.number()).map(|partition| {
        let names = Names::new(partitions.prefix(partition));
        open(config, settings, &shared, &locator, names, wakes, closed)
    });
    let opened = futures_util::future::join_all(opened).await;
    let mut parts = Vec::with_capacity(opened.len());
    let (mut down, mut reason) = (0, None);
    for part in opened {
        let (part, unreachable) = part?;
        parts.push(part);
        if let Some(error) = unreachable {
            down += 1;
            reason = Some(error);
        }
    }
    match reason {
        Some(error) if down == parts.len() => Err(error),
        Some(error) => {
            tracing::warn!(down, reason = %format!("{error:#}"), "some partitions are not available");
            Ok((partitions, parts))
        }
        None => Ok((partitions, parts)),
    }
}

/// What partitions share.
struct Shared {
    scripts: Arc<Scripts>,
    rules: Arc<str>,
    recent: Arc<Recent>,
}

/// Opens one. If its server is only not reachable, it comes when the server does; the error says why
/// it is not here yet.
async fn open(
    config: &RedisConfig,
    settings: &StoreSettings,
    shared: &Shared,
    locator: &Arc<Locator>,
    names: Names,
    wakes: &broadcast::Sender<Wake>,
    closed: &CancellationToken,
) -> anyhow::Result<(Part, Option<anyhow::Error>)> {
    let slot = partition::slot(&names.prefix);
    let barrier = names.key("barrier");
    let connector = Arc::new(Connector::new(config, locator.clone(), slot, barrier)?);
    let mut unreachable = None;
    let mut start = async |waits: bool| -> anyhow::Result<Link> {
        let first: Option<Connected> = match connector.connect().await {
            Ok(connected) => Some(connected),
            Err(error) if error.is::<Unfit>() => return Err(error),
            Err(error) => {
                unreachable = Some(error);
                None
            }
        };
        Ok(Link::start(connector.clone(), first, waits, closed.clone()))
    };
    let link = start(false).await?;
    let (safe, work) = match config.durability {
        Durability::Fsync => (link.clone(), link.clone()),
        Durability::Replicated(_) => (start(true).await?, start(true).await?),
    };
    let hint = Arc::new(Hint::default());
    let ear = Ear::new(&names, wakes.clone(), hint.clone());
    tokio::spawn(wake::listen(connector.clone(), ear, closed.clone()));
    let core = Arc::new(Core {
        names,
        link,
        safe,
        work,
        scripts: shared.scripts.clone(),
        settings: settings.clone(),
        rules: shared.rules.clone(),
        recent: shared.recent.clone(),
        asked: Asked::new(),
    });
    let part = Part {
        enqueuer: enqueue::start(core.clone()),
        puller: pull::start(core.clone()),
        completer: complete::start(core.clone()),
        core,
        hint,
        outbox: left::Place::default(),
        leaving: left::Place::default(),
    };
    Ok((part, unreachable))
}

/// The number of partitions: what the store says, or at its first start the settings.
async fn layout(config: &RedisConfig, locator: &Arc<Locator>) -> anyhow::Result<Partitions> {
    let (wanted, copies) = match (config.partitions, config.kind) {
        (0, RedisKind::Cluster) => (partition::IN_CLUSTER, LAYOUT.len()),
        (wanted, RedisKind::Cluster) => (wanted, LAYOUT.len()),
        (wanted, _) => (wanted.max(1), 1),
    };
    let mut found = None;
    let mut reason = None;
    for key in &LAYOUT[..copies] {
        let copy = match Copy::connect(config, locator, key).await {
            Ok(copy) => copy,
            Err(error) if error.is::<Unfit>() => return Err(error),
            Err(error) => {
                reason.get_or_insert(error);
                continue;
            }
        };
        // What the first says is what the others are to say; only it is there before them.
        let to_set = match (key, found) {
            (_, Some(found)) => Some(found),
            (key, None) if *key == LAYOUT[0] => Some(wanted),
            _ => None,
        };
        found = copy.read_or_set(to_set).await?.or(found);
    }
    let number = match (found, reason) {
        (Some(number), _) => number,
        (None, Some(error)) => return Err(error),
        (None, None) => anyhow::bail!("the key {} is not there", LAYOUT[0]),
    };
    anyhow::ensure!(
        config.partitions == 0 || config.partitions == number,
        "the queue in this Redis has {number} partitions for ever, but queue.redis.partitions is {}: \
         set it to {number}, or leave it out; to change it, move the mail to a new queue",
        config.partitions
    );
    Partitions::new(number).with_context(|| format!("the key {} says {number}", LAYOUT[0]))
}

/// One of the keys that say how many partitions there are.
struct Copy {
    key: &'static str,
    connected: Connected,
    in_cluster: bool,
}

impl Copy {
    async fn connect(
        config: &RedisConfig,
        locator: &Arc<Locator>,
        key: &'static str,
    ) -> anyhow::Result<Self> {
        let barrier = format!("{key}:barrier");
        let connector = Connector::new(config, locator.clone(), partition::slot(key), barrier)?;
        let connected = connector.connect().await?;
        Ok(Self {
            key,
            connected,
            in_cluster: config.kind == RedisKind::Cluster,
        })
    }

    /// What it says, or after it said nothing what it is set to.
    async fn read_or_set(mut self, to_set: Option<u16>) -> anyhow::Result<Option<u16>> {
        let connection = &mut self.connected.connection;
        let said: Option<u16> = cmd("GET").arg(self.key).query_async(connection).await?;
        let (None, Some(number)) = (said, to_set) else {
            return Ok(said);
        };
        let mut set = cmd("SET");
        set.arg(self.key).arg(number).arg("NX");
        let _: Value = set.query_async(connection).await?;
        // Where there is one master, all mail that it acknowledges comes after this on its replicas too.
        if let (Some(wait), true) = (&self.connected.wait, self.in_cluster) {
            let waited = wait.follow([]);
            let answers = connection.send_packed_commands(&waited, 0, waited.len());
            let answers = answers.await?;
            anyhow::ensure!(
                matches!(answers.as_slice(), [barrier, copies] if wait.is_enough(barrier, copies)),
                "too few replicas have confirmed the layout of a new queue"
            );
        }
        // Another process may have been first.
        Ok(cmd("GET").arg(self.key).query_async(connection).await?)
    }
}
