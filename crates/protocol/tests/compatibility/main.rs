//! Neighbours one release apart work together, and what was stored is read for ever.
//!
//! - `proto/released.txt` lists every field, enum value and call that was released. [`listing`]
//!   holds the protos of today against it: what is gone, renumbered or retyped is refused.
//! - `recorded/` holds encoded messages of each release, every field set, with what they say in
//!   words. [`messages`] decodes them with the types of today.
//!
//! `cargo xtask compatibility --record NAME` adds what is new to both; it never changes what is there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod listing;
mod messages;
mod sample;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

fn pool() -> DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(postrider_protocol::DESCRIPTORS).unwrap());
    POOL.clone()
}

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}
