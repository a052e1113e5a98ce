//! How a service shows what it does: logs, traces, metrics, health.
//!
//! Lives here: the one call in each `main` that starts them all ([`start`]), the trace of a
//! message ([`trace`]), the tables from which metrics are described and documented
//! ([`metric`]), readiness ([`health`]), and the small HTTP server that shows metrics and
//! health.
//!
//! Must not live here: any metric, span or log line of a service. Those stand in the service,
//! its metrics in its `metrics.rs`.
//!
//! Whatever is switched off costs next to nothing: without an OTLP endpoint a
//! [`trace::MessageSpan`] is three numbers, and without a listener nothing is rendered.
//!
//! Start reading at [`start`], then at [`trace`].

mod buckets;
pub mod config;
pub mod health;
mod http;
mod log;
pub mod metric;
mod process;
mod start;
pub mod trace;

pub use config::{LogFormat, TelemetryConfig};
pub use start::{Telemetry, start};
