//! The service with workers that are good, gone, slow or hostile, over the embedded store.
#![allow(clippy::unwrap_used)]

mod admin;
mod bodies;
mod hostile;
mod kit;
mod work;
