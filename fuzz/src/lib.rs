//! What the fuzz targets run.
//!
//! The bodies live beside the tests of the crate they are about, so that an ordinary test
//! replays `corpus/` on a stable compiler. Run one with `cargo +nightly fuzz run <target>`, or on
//! stable with `RUSTC_BOOTSTRAP=1 cargo fuzz run <target>`; a finding joins the corpus.

#[path = "../../crates/queue/tests/fuzz/harness.rs"]
pub mod queue;
#[path = "../../crates/smtp/tests/support/mod.rs"]
mod support;

pub use support::harness;
