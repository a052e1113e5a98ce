//! What can change while the process runs: on SIGHUP, or when the config file has changed.

use std::sync::Arc;

use postrider_delivery::Reloader as DeliveryReloader;
use postrider_edge::Reloader as EdgeReloader;
use postrider_mailbox::{MailboxService, Pop3Reloader};
use postrider_process::needs_restart;
use postrider_telemetry::Telemetry;
use postrider_tls::ServerCertificate;

use crate::settings::Settings;

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
        left.extend(telemetry.reload(&new.telemetry));
        left.extend(self.edge.reload(new.edge.clone()));
        left.extend(self.delivery.reload(new.delivery.clone()));
        left.extend(self.mailbox.reload(&new.server, &new.mailbox));
        left.extend(self.pop3.reload(new.mailbox.pop3.clone()));
        left.extend(at_next_start(new, running));
        left
    }
}

/// Sections that are read at the start only, where they have changed.
fn at_next_start(new: &Settings, running: &Settings) -> impl Iterator<Item = String> {
    [
        needs_restart("server", &new.server, &running.server),
        needs_restart("tls", &new.tls, &running.tls),
        needs_restart("services", &new.services, &running.services),
        needs_restart("queue", &new.queue, &running.queue),
    ]
    .into_iter()
    .flatten()
}
