//! What can change while the process runs: on SIGHUP, or when the config file has changed.

use std::sync::Arc;

use postrider_config::watch::Changes;
use postrider_delivery::Reloader as DeliveryReloader;
use postrider_edge::Reloader as EdgeReloader;
use postrider_mailbox::{MailboxService, Pop3Reloader};
use postrider_telemetry::Telemetry;
use postrider_tls::ServerCertificate;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::settings::Settings;
use crate::source::Source;

/// The handles of the services of this process.
pub struct Reloaders {
    pub(crate) certificate: Arc<ServerCertificate>,
    pub(crate) edge: EdgeReloader,
    pub(crate) delivery: DeliveryReloader,
    pub(crate) mailbox: Arc<MailboxService>,
    pub(crate) pop3: Pop3Reloader,
}

impl Reloaders {
    /// Puts new settings into force where that is possible, and names what a restart needs.
    pub fn reload(&self, new: &Settings, running: &Settings, telemetry: &Telemetry) -> Vec<String> {
        let mut left = Vec::new();
        if let Err(error) = self.certificate.reload() {
            left.push(format!("tls: {error:#}"));
        }
        if let Err(error) = telemetry.reload(&new.telemetry) {
            left.push(format!("telemetry.log: {error:#}"));
        }
        left.extend(self.edge.reload(new.edge.clone()));
        left.extend(self.delivery.reload(new.delivery.clone()));
        left.extend(self.mailbox.reload(&new.server, &new.mailbox));
        left.extend(self.pop3.reload(new.mailbox.pop3.clone()));
        left.extend(needs_restart(new, running));
        left
    }
}

/// Sections that are read at the start only, where they have changed.
fn needs_restart(new: &Settings, running: &Settings) -> Vec<String> {
    fn changed<T: serde::Serialize>(new: &T, running: &T) -> bool {
        serde_json::to_value(new).ok() != serde_json::to_value(running).ok()
    }
    [
        ("server", changed(&new.server, &running.server)),
        ("tls", changed(&new.tls, &running.tls)),
        ("services", changed(&new.services, &running.services)),
        ("queue", changed(&new.queue, &running.queue)),
    ]
    .into_iter()
    .filter(|(_, changed)| *changed)
    .map(|(section, _)| format!("[{section}] has changed; it takes effect at the next start"))
    .collect()
}

/// Reads the settings again when there is reason to.
pub struct Watch {
    /// Where they come from.
    pub source: Source,
    /// With which the process was started.
    pub running: Settings,
    /// What takes new ones.
    pub reloaders: Reloaders,
    /// Takes new ones too; kept here until the process ends, so that what it still has to send
    /// is sent last.
    pub telemetry: Arc<Telemetry>,
}

impl Watch {
    /// Reloads at every SIGHUP and every change of the file, until `stop`.
    pub async fn run(self, mut changes: Changes, stop: CancellationToken) {
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.next() => change,
            };
            info!(?change, "reloading");
            self.reload();
        }
    }

    fn reload(&self) {
        let new = match self.source.read() {
            Ok(new) => new,
            Err(problems) => {
                for problem in problems.problems() {
                    error!(%problem, "not reloaded, everything stays as it was");
                }
                return;
            }
        };
        let left = self.reloaders.reload(&new, &self.running, &self.telemetry);
        for problem in &left {
            warn!(%problem, "not reloaded");
        }
        info!(left = left.len(), "reloaded");
    }
}
