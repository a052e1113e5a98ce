//! From the settings to an open store and its stored bodies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_config::ServerConfig;

use crate::bodies::Bodies;
use crate::config::{QueueConfig, StoreKind};
use crate::store::embedded::{EmbeddedSettings, EmbeddedStore};
use crate::store::redis::RedisStore;
use crate::store::{Store, StoreSettings};

/// Opens the configured store, and recovers what an unclean end left.
pub(crate) async fn store(
    server: &ServerConfig,
    config: &QueueConfig,
) -> anyhow::Result<Arc<dyn Store>> {
    let settings = StoreSettings {
        lease: config.lease.0,
        slots_per_destination: config.slots_per_destination,
        policies: config.policies(),
        journey_retention: config.journeys.keep.0,
        instance: format!("queue@{}", server.hostname),
    };
    Ok(match config.store {
        StoreKind::Embedded => {
            let embedded = EmbeddedSettings {
                segment_size: config.embedded.segment_size.0,
                reserve: config.embedded.reserve.0,
                cache: usize::try_from(config.embedded.cache.0).unwrap_or(usize::MAX),
                journey_space: config.journeys.space.0,
                ..EmbeddedSettings::in_dir(&embedded_dir(server, config))
            };
            Arc::new(EmbeddedStore::open(embedded, settings).await?)
        }
        StoreKind::Redis => RedisStore::open(&config.redis, settings).await?,
    })
}

/// The folder of the embedded store.
pub(crate) fn embedded_dir(server: &ServerConfig, config: &QueueConfig) -> PathBuf {
    or_default(&config.embedded.dir, &server.data_dir, "queue")
}

/// Opens the place of stored bodies.
pub(crate) fn bodies(server: &ServerConfig, config: &QueueConfig) -> anyhow::Result<Bodies> {
    Bodies::open(&config.bodies, server.data_dir.join("bodies"))
}

fn or_default(dir: &Path, data_dir: &Path, name: &str) -> PathBuf {
    match dir.as_os_str().is_empty() {
        true => data_dir.join(name),
        false => dir.to_owned(),
    }
}
