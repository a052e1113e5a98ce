//! What mail programs may ask for besides delivery.

use postrider_config::values::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest that FUTURERELEASE can say (RFC 4865 section 4), in seconds.
const LONGEST_HOLD: u64 = 999_999_999;

/// What authenticated clients may ask for besides delivery.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Submission {
    /// How far in the future a message may be sent: mail programs ask for it with HOLDFOR or
    /// HOLDUNTIL at MAIL (FUTURERELEASE, RFC 4865), and are told 501 5.5.4 beyond this. The message
    /// waits in the queue, and its lifetime counts from its time. "0s" does not offer it. 30 days
    /// serve "send on Monday" and reminders, and bound how long forgotten mail is kept.
    pub max_hold: Period,

    /// Whether MT-PRIORITY (RFC 6710) is offered. A message of priority 9 overtakes a bounded
    /// number of others to the same destination from the same tenant, one of -9 lets them pass;
    /// it never overtakes another tenant's.
    pub priority: bool,
}

impl Default for Submission {
    fn default() -> Self {
        Self {
            max_hold: Period::seconds(30 * 86_400),
            priority: true,
        }
    }
}

impl Submission {
    pub(super) fn validate(&self, problems: &mut Vec<String>) {
        if self.max_hold.0.as_secs() > LONGEST_HOLD {
            problems.push(format!(
                "edge.submission.max_hold: at most {LONGEST_HOLD}s can be said"
            ));
        }
    }

    /// In whole seconds.
    pub(crate) fn max_hold_seconds(&self) -> u32 {
        u32::try_from(self.max_hold.0.as_secs().min(LONGEST_HOLD)).unwrap_or(u32::MAX)
    }
}

/// How the tenant of a submitted message is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TenantName {
    /// By the domain of the account: `here.test` of `bob@here.test`. An account without one is a
    /// tenant of its own.
    Domain,
    /// By the account.
    Account,
    /// Nobody is told apart.
    None,
}

impl TenantName {
    /// The tenant of an account's mail, in lower case; empty if there is none.
    pub(crate) fn of(self, account: &str) -> String {
        match self {
            Self::Domain => account
                .rsplit_once('@')
                .map_or(account, |(_, domain)| domain),
            Self::Account => account,
            Self::None => "",
        }
        .to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_named_as_configured() {
        assert_eq!(TenantName::Domain.of("Bob@Here.test"), "here.test");
        assert_eq!(TenantName::Domain.of("\"a@b\"@here.test"), "here.test");
        assert_eq!(TenantName::Domain.of("Robot"), "robot");
        assert_eq!(TenantName::Account.of("Bob@Here.test"), "bob@here.test");
        assert_eq!(TenantName::None.of("bob@here.test"), "");
        assert_eq!(TenantName::Domain.of(""), "");
    }
}
