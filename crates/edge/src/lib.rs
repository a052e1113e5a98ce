//! The receiving edge: mail comes in here, over SMTP, and nowhere else.
//!
//! What lives here: listeners in three roles (other servers, and mail programs over STARTTLS and
//! implicit TLS), the driver that feeds a connection's octets to the session of
//! `postrider-smtp` and obeys it, the policy chain, authentication against the directory, the
//! header fields that a receiving server adds, and the way of a message's content into the queue.
//!
//! What must not live here: SMTP's grammar and order of commands (`postrider-smtp`), anything
//! that survives a restart (the queue), who exists (the directory), where mail goes next beyond
//! "here" and "elsewhere" (delivery).
//!
//! One promise holds throughout: the only way to a 250 after the end of a message leads through
//! [`enqueue`](enqueue::enqueue), and what is asked of a client's connection never decides what
//! becomes of a message that has arrived whole.
//!
//! Start reading at [`Edge`] (`edge.rs`): listeners and drain. A connection's life is
//! `entrance.rs`, then `driver.rs`; what the session asks is answered in `clerk/`; a message's end
//! is `receive.rs`. "May they?" is always `policy/`.

mod admission;
mod clerk;
pub mod config;
mod connection;
mod directory;
mod domains;
mod driver;
mod edge;
mod enqueue;
mod entrance;
mod headers;
mod intake;
mod listener;
pub mod metrics;
pub mod policy;
mod receive;
mod settings;
mod stop;
mod transaction;
mod upload;

pub use config::{EdgeConfig, Role};
pub use edge::{Door, Edge, Reloader};
