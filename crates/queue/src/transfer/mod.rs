//! A queue on its way from one store to another: `postrider store export` and `import`.
//!
//! An export is a file (`file`) with every queued message, its stored body, its journey and how it
//! stands; suspensions and the other records come along. Both directions stream: what is in
//! memory at a time is a page of messages, or a piece of a body.

mod export;
mod file;
mod import;

/// Kinds of records that go along: operators' acts.
const RECORD_KINDS: [&str; 1] = ["act"];

pub use export::{Exported, export};
pub use file::Totals;
pub use import::{Imported, import};
