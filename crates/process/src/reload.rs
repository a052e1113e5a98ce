//! Reading the settings again, and taking over what can change while the process runs.

use std::fmt::Display;

use postrider_config::ConfigError;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::changes::Changes;

/// At every SIGHUP and every change of the config file, until `stop`: reads the settings and has
/// `take_over` put them into force. That names what it had to leave as it was. Settings with a mistake
/// change nothing.
pub async fn reload<S, P: Display>(
    mut changes: Changes,
    stop: CancellationToken,
    read: impl Fn() -> Result<S, ConfigError>,
    take_over: impl Fn(S) -> Vec<P>,
) {
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.next() => change,
        };
        info!(?change, "reloading");
        match read() {
            Ok(settings) => {
                let left = take_over(settings);
                for problem in &left {
                    warn!(%problem, "not reloaded");
                }
                info!(left = left.len(), "reloaded");
            }
            Err(problems) => {
                for problem in problems.problems() {
                    error!(%problem, "not reloaded, everything stays as it was");
                }
            }
        }
    }
}

/// What to say of a section that is read at the start only, if it is another one than then.
pub fn needs_restart<T: Serialize>(section: &str, new: &T, running: &T) -> Option<String> {
    (serde_json::to_value(new).ok() != serde_json::to_value(running).ok())
        .then(|| format!("[{section}] has changed; it takes effect at the next start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_needs_a_restart() {
        assert_eq!(needs_restart("tls", &1, &1), None);
        assert!(needs_restart("tls", &1, &2).unwrap().contains("[tls]"));
    }
}
