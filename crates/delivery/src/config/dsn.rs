//! The section `[delivery.dsn]`.

use postrider_config::values::{Period, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Delivery status notifications: who signs them and what they return.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DsnConfig {
    /// The address in From. Empty stands for `MAILER-DAEMON@<[server] hostname>`. The envelope's
    /// reverse-path is always the null one (RFC 3464 section 2), so that no DSN is ever answered
    /// by another.
    pub from: String,
    /// Where readers are told to turn to. Empty stands for `postmaster@<[server] hostname>`.
    pub contact: String,
    /// The largest message that is returned whole when its sender asked for that (RET=FULL).
    /// Of larger ones, and where nobody asked, only the header section goes back.
    pub full_up_to: Size,
    /// The most of a header section that is returned; the rest is cut at a line's end.
    pub headers_up_to: Size,
    /// DSNs that one address gets within `limit_period`, e.g. 100; the rest is not sent, which the
    /// journey of the message tells and `postrider.delivery.dsns.withheld` counts. It saves whoever
    /// was forged as the sender of a flood of undeliverable mail, and costs a sender of many
    /// messages the news of some that failed: so 0, no limit, unless you set one. Each delivery
    /// worker counts for itself: with four of them an address may get four times as many.
    pub limit: u32,
    /// See `limit`. The window slides.
    pub limit_period: Period,
}

impl Default for DsnConfig {
    fn default() -> Self {
        Self {
            from: String::new(),
            contact: String::new(),
            full_up_to: Size::kib(50),
            headers_up_to: Size::kib(16),
            limit: 0,
            limit_period: Period::seconds(3600),
        }
    }
}

impl DsnConfig {
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, address) in [("from", &self.from), ("contact", &self.contact)] {
            if !address.is_empty() && !is_plain_address(address) {
                problems.push(format!("delivery.dsn.{key}: {address:?} is not an address"));
            }
        }
        if self.full_up_to > Size::mib(1) || self.headers_up_to > Size::mib(1) {
            problems.push("delivery.dsn: a DSN returns at most 1MiB".to_owned());
        }
        if self.limit > 0 && self.limit_period.0.is_zero() {
            problems.push("delivery.dsn.limit_period: must be longer than nothing".to_owned());
        }
        problems
    }
}

/// An address that may stand in a header field without quoting.
fn is_plain_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !text
                .chars()
                .any(|character| character.is_control() || " <>()[]\",;:\\".contains(character))
    })
}
