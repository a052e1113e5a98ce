//! What all calls share.

use std::sync::Arc;

use redis::Cmd;

use super::content::Recent;
use super::keys::Names;
use super::lease::Asked;
use super::link::Link;
use super::script::{Script, Scripts};
use crate::policy::{DestinationPattern, Policies, Policy, Unknown};
use crate::store::StoreSettings;

/// Bytes of one batch: enough to share a round trip among many, little enough that a script does
/// not hold up the server.
pub(super) const BATCH_BYTES: usize = 2 << 20;

pub(super) struct Core {
    /// How the keys of this partition are called.
    pub(super) names: Names,
    /// For what only reads.
    pub(super) link: Link,
    /// For accepting, completing and acting. This and the next are the same link as the first,
    /// unless replicas are waited for: the wait holds up all that is sent on its connection after it.
    pub(super) safe: Link,
    /// For leases and what is done under them. They need not survive a loss of power, but a
    /// failover: a promoted replica that knew nothing of them would lease the same a second time.
    pub(super) work: Link,
    pub(super) scripts: Arc<Scripts>,
    pub(super) settings: StoreSettings,
    /// The policies and weights, as the scripts read them.
    pub(super) rules: Arc<str>,
    /// What this process has accepted and not handed out.
    pub(super) recent: Arc<Recent>,
    /// Calls for leases of this process that are to be answered again.
    pub(super) asked: Asked,
}

impl Core {
    /// A call of a script, to be completed with its arguments from `ARGV[4]` on.
    pub(super) fn call(&self, script: &Script) -> Cmd {
        let mut cmd = script.call(&self.names.prefix, self.settings.slots_per_destination);
        cmd.arg(self.retention_ms()).arg(&*self.rules);
        cmd
    }

    /// The key of a name.
    pub(super) fn key(&self, name: &str) -> String {
        self.names.key(name)
    }

    /// What holds for a destination.
    pub(super) fn policy(&self, destination: &str) -> &Policy {
        self.settings.policies.of(destination)
    }

    /// Milliseconds; at least one, since Redis deletes at once what is to live for none.
    fn retention_ms(&self) -> u64 {
        u64::try_from(self.settings.journey_retention.as_millis())
            .unwrap_or(u64::MAX)
            // A hundred years: beyond it, Redis' own arithmetic overflows.
            .clamp(1, 100 * 366 * 24 * 3600 * 1000)
    }
}

/// Policies and tenants' weights as `scripts/rules.lua` reads them.
pub(super) fn rules(policies: &Policies) -> String {
    let mut rules = String::new();
    let mut add = |fit: char, first: &str, last: &str, policy: &Policy| {
        let unknown = match policy.unknown {
            Unknown::Retry => 'R',
            Unknown::Hold => 'H',
        };
        let lifetime = micros(policy.lifetime);
        rules.push_str(&format!(
            "p\t{fit}\t{first}\t{last}\t{lifetime}\t{unknown}\n"
        ));
    };
    for (pattern, policy) in &policies.by_destination {
        match pattern {
            DestinationPattern::All => add('a', "", "", policy),
            DestinationPattern::Transport(name) => add('t', &format!("{name}:"), "", policy),
            DestinationPattern::Below(first, last) => add('b', first, last, policy),
            DestinationPattern::One(one) => add('o', one.as_str(), "", policy),
        }
    }
    add('a', "", "", &policies.default);
    for (tenant, weight) in &policies.weights {
        // A name with a line feed in it is nobody's.
        if !tenant.contains('\n') {
            rules.push_str(&format!("w\t{}\t{tenant}\n", (*weight).max(1)));
        }
    }
    rules
}

/// Whole microseconds, within what Lua's numbers hold exactly.
pub(super) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .min(1 << 51)
}
