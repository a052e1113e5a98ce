//! The store on Redis: many queue processes, one truth.
//!
//! Every state change is one server-side script on one hash slot (`scripts/*.lua`), so that it
//! is atomic whatever dies in the middle, and so that no process keeps anything that matters.
//! Time is Redis' own. The keys are described in `docs/redis.md` and named in one place.

pub mod config;

pub use config::{Durability, RedisConfig};
