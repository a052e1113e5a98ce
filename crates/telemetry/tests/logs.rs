//! Log lines as a collector reads them: one JSON object each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use postrider_telemetry::{LogFormat, TelemetryConfig};

const CHILD: &str = "POSTRIDER_TEST_LOGS";

/// Logs a little, in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(format) = std::env::var(CHILD) else {
        return;
    };
    let mut config = TelemetryConfig {
        listen: Vec::new(),
        log_format: match format.as_str() {
            "json" => LogFormat::Json,
            _ => LogFormat::Human,
        },
        ..TelemetryConfig::default()
    };
    let telemetry = postrider_telemetry::start("edge", &config).unwrap();
    tracing::info!(
        queue_id = "01abc",
        size = 4096,
        "message accepted\nwith a line end"
    );
    tracing::debug!("not shown");
    config.log = "debug".to_owned();
    assert_eq!(telemetry.reload(&config), [""; 0]);
    tracing::debug!("shown after the reload");
    config.log = "x=y=z".to_owned();
    config.trace_sample_ratio = 0.5;
    let left = telemetry.reload(&config);
    assert!(left[0].contains("telemetry.log") && left[1].contains("next start"));
}

fn lines(format: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format)
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn json_is_one_object_a_line() {
    let lines = lines("json");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(first["level"], "INFO");
    assert_eq!(first["message"], "message accepted\nwith a line end");
    assert_eq!(first["queue_id"], "01abc");
    assert_eq!(first["size"], 4096);
    assert!(first["timestamp"].is_string());
    let second: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(second["message"], "shown after the reload");
}

#[test]
fn lines_for_eyes_have_no_colour_in_a_pipe() {
    let text = lines("human").join("\n");
    assert!(
        text.contains("INFO") && text.contains("queue_id=\"01abc\" size=4096"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}
