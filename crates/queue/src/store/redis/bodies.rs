//! Bodies that are stored beside the queue.

use redis::{Value, cmd};

use super::answer::{items, required};
use super::core::Core;
use crate::store::StoreError;

/// Names of one command.
const PIECE: usize = 1000;

pub(super) async fn in_use(core: &Core, names: Vec<String>) -> Result<Vec<String>, StoreError> {
    let mut used = Vec::new();
    for names in names.chunks(PIECE) {
        let mut read = cmd("HMGET");
        read.arg(core.key("bodies")).arg(names);
        let counts = items(core.link.query(&read).await?, "bodies")?;
        let found = names.iter().zip(counts);
        used.extend(
            found
                .filter(|(_, count)| !matches!(count, Value::Nil))
                .map(|(name, _)| name.clone()),
        );
    }
    Ok(used)
}

pub(super) async fn ended(core: &Core, limit: usize) -> Result<Vec<String>, StoreError> {
    let mut read = cmd("SRANDMEMBER");
    read.arg(core.key("ended-bodies")).arg(limit);
    items(core.link.query(&read).await?, "ended bodies")?
        .into_iter()
        .map(|name| required(Some(name), "the name of a body"))
        .collect()
}

pub(super) async fn forget(core: &Core, names: Vec<String>) -> Result<(), StoreError> {
    for names in names.chunks(PIECE) {
        let mut remove = cmd("SREM");
        remove.arg(core.key("ended-bodies")).arg(names);
        core.link.query(&remove).await?;
    }
    Ok(())
}
