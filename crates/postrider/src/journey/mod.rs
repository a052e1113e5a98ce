//! A message's journey as the queue tells it, drawn as a sequence diagram.
//!
//! [`dialogue`] draws a conversation between a client and a server; it serves the demo too.
//! [`drawing`] lays a whole journey out, [`time`] says when.

pub mod dialogue;
pub mod drawing;
pub mod time;
