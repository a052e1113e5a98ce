//! Mailboxes: who exists here, where their mail lies, and how they fetch it.
//!
//! Lives here: the accounts file and password checks ([`accounts`]), the directory that the edge
//! asks (`directory`), the Maildir store with its durability rules (`store`), final delivery
//! (`deliver`), and POP3 (`pop3`: a session without I/O, and the driver that gives it sockets).
//!
//! Must not live here: SMTP, queueing, retries, anything that decides whether a message is
//! accepted from the network. A delivery is reported as done when it is on disk, not before.
//!
//! Start reading at `service`, which ties the parts together; then `store::maildir` for what
//! "on disk" means, and `pop3::step` for the POP3 dialogue as a table.

pub mod accounts;
pub mod config;
mod deliver;
mod directory;
pub mod metrics;
mod pop3;
mod service;
mod store;

pub use config::{MailboxConfig, Pop3Config, Pop3Listener, Pop3Role};
pub use pop3::{Pop3, Pop3Reloader};
pub use service::MailboxService;
