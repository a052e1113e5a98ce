//! The section `[telemetry]`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Logs, traces, metrics and health: how a process shows what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where `/metrics`, `/health/live` and `/health/ready` are served, over plain HTTP. An empty
    /// list switches them off. Loopback unless told otherwise, because metrics tell much to a
    /// stranger. Services that run as separate processes on one host need an address each.
    pub listen: Vec<SocketAddr>,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by part, e.g.
    /// "info,postrider_delivery=debug". At `info` there is one line a message accepted and one
    /// an attempt; the dialogues are in the journeys. Can be reloaded.
    pub log: String,
    /// How log lines are written to standard error: `human` for eyes, `json` for collectors. One
    /// event a line in both.
    pub log_format: LogFormat,
    /// Where traces are sent, by OTLP over gRPC, e.g. "http://127.0.0.1:4317". Nothing is traced if
    /// it is unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// The share of messages that are traced, from 0.0 to 1.0. It is decided once for a
    /// message, so that a trace is whole or absent.
    pub trace_sample_ratio: f64,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For eyes; in colour on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8025))],
            log: "info".to_owned(),
            log_format: LogFormat::Human,
            otlp_endpoint: None,
            trace_sample_ratio: 1.0,
        }
    }
}

impl TelemetryConfig {
    /// What the types cannot say: problems, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = crate::log::filter(&self.log) {
            problems.push(format!("telemetry.log: {error}"));
        }
        if !(0.0..=1.0).contains(&self.trace_sample_ratio) {
            problems.push(format!(
                "telemetry.trace_sample_ratio: {} is not between 0.0 and 1.0",
                self.trace_sample_ratio
            ));
        }
        if let Some(endpoint) = &self.otlp_endpoint
            && !endpoint.starts_with("http://")
            && !endpoint.starts_with("https://")
        {
            problems.push(format!(
                "telemetry.otlp_endpoint: {endpoint:?} is not an address such as \"http://127.0.0.1:4317\""
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_problems_name_their_keys() {
        assert!(TelemetryConfig::default().validate().is_empty());
        let problems = TelemetryConfig {
            log: "info,=,".to_owned(),
            trace_sample_ratio: 2.0,
            otlp_endpoint: Some("localhost:4317".to_owned()),
            ..TelemetryConfig::default()
        }
        .validate();
        assert_eq!(problems.len(), 3, "{problems:?}");
        for (problem, key) in problems
            .iter()
            .zip(["log", "trace_sample_ratio", "otlp_endpoint"])
        {
            assert!(
                problem.starts_with(&format!("telemetry.{key}: ")),
                "{problem}"
            );
        }
    }
}
