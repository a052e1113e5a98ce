//! The service with workers that are good, gone, slow or hostile, over the embedded store
//! and, where it is about several processes, over Redis.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod acts;
mod admin;
mod bodies;
mod draining;
mod hostile;
mod kit;
mod renewal;
#[cfg(feature = "s3")]
mod s3;
mod shared;
mod slow;
mod suspensions;
mod work;
