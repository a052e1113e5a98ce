//! AUTH: may this client in?

use std::sync::Arc;
use std::time::Duration;

use postrider_smtp::credentials::Credentials;
use postrider_smtp::reply::Reply;
use postrider_smtp::server::Answer;
use postrider_smtp::status::EnhancedStatus;
use tokio::time::sleep;
use tracing::{debug, info};

use super::Clerk;
use crate::directory::{self, Access};
use crate::metrics;

/// Wait before a failed try is answered, times the number of failures so far: nobody notices at
/// a slip, and guessing takes for ever.
const DELAY: Duration = Duration::from_millis(500);

impl Clerk {
    pub(super) async fn authenticate(&mut self, credentials: &Credentials) -> Answer {
        let shared = Arc::clone(&self.shared);
        let wait = self.settings.config.timeouts.lookup.0;
        let client = self.client.address;
        match directory::authenticate(&shared.directory, credentials, client, wait).await {
            Access::Granted(account) => {
                metrics::authenticated("granted");
                debug!(%client, account, "authenticated");
                self.account = Some(account);
                Answer::Authenticated
            }
            Access::Denied => {
                metrics::authenticated("denied");
                info!(%client, role = %self.client.role, "authentication failed");
                self.auth_failures += 1;
                sleep(DELAY * self.auth_failures).await;
                Answer::Denied
            }
            Access::Unknown => {
                metrics::authenticated("unavailable");
                Answer::Refuse(Reply::new(
                    454,
                    EnhancedStatus::transient(7, 0),
                    "Cannot authenticate you now, try again later",
                ))
            }
        }
    }
}
