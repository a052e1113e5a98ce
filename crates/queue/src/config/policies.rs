//! `[[queue.policy]]` and `[queue.tenants]`: what holds for which destination, and how tenants
//! share it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use postrider_config::values::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{QueueConfig, RetryConfig};
use crate::policy::{DestinationPattern, Policies, Policy, Unknown};

/// Policies beyond this would make each lookup slow.
const MOST_POLICIES: usize = 1000;
/// Tenants with a weight of their own.
const MOST_TENANTS: usize = 10_000;
/// A larger difference would starve the others in all but name.
const LARGEST_WEIGHT: u32 = 1000;

/// What holds for some destinations. What is left out holds as for all others; of several whose
/// pattern matches, only the first counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Which ones: "smtp:example.org", "smtp:*.example.org" (the domains below example.org, not
    /// itself), "mailbox:*" (a whole transport), or "*".
    pub destination: String,
    /// When a deferred delivery is tried again, where it differs from `[queue.retry]`.
    pub retry: PolicyRetryConfig,
    /// How long a message is tried, if not for `queue.lifetime`.
    pub lifetime: Option<Period>,
    /// After how long the sender is told of a delay, if not after `queue.delay_warning`; "never"
    /// if not at all.
    pub delay_warning: Option<DelayWarning>,
    /// What becomes of an unknown outcome, if not as `queue.unknown` says.
    pub unknown: Option<UnknownConfig>,
}

/// The parts of a retry schedule that differ from `[queue.retry]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRetryConfig {
    /// The wait after the first attempt.
    pub first: Option<Period>,
    /// By how much the wait grows from attempt to attempt. At least 1.
    pub factor: Option<f64>,
    /// The longest wait.
    pub most: Option<Period>,
    /// How much a wait varies either way, as a share of it. From 0 to 0.5.
    pub jitter: Option<f64>,
}

/// A tenant. Its name is what the edge puts on its mail; where tenants are not told apart, nothing
/// needs to be set here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantConfig {
    /// Its share of a destination relative to the other tenants that wait for it: with 3, three of
    /// its deliveries leave for each of one with 1. From 1 to 1000.
    pub weight: u32,
}

impl Default for TenantConfig {
    fn default() -> Self {
        Self { weight: 1 }
    }
}

/// What becomes of a delivery whose last attempt may or may not have succeeded, because the
/// connection or the worker was lost between the final dot and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownConfig {
    /// It is tried again: rather a duplicate than a loss.
    Retry,
    /// It is held until an operator decides.
    Hold,
}

impl From<UnknownConfig> for Unknown {
    fn from(unknown: UnknownConfig) -> Self {
        match unknown {
            UnknownConfig::Retry => Self::Retry,
            UnknownConfig::Hold => Self::Hold,
        }
    }
}

/// A length of time such as "4h", or "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct DelayWarning(pub Option<Duration>);

impl FromStr for DelayWarning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "never" | "0") {
            return Ok(Self(None));
        }
        match text.parse::<Period>() {
            Ok(period) => Ok(Self((!period.0.is_zero()).then_some(period.0))),
            Err(_) => Err(format!(
                "{text:?} is neither a length of time such as \"4h\" nor \"never\""
            )),
        }
    }
}

impl fmt::Display for DelayWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => Period(time).fmt(f),
            None => f.write_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for DelayWarning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for DelayWarning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the settings say altogether.
pub(super) fn policies(config: &QueueConfig) -> Policies {
    Policies {
        default: Policy {
            retry: config.retry.schedule(),
            lifetime: config.lifetime.0,
            delay_warning: config.delay_warning.0,
            unknown: config.unknown.into(),
        },
        by_destination: config
            .policy
            .iter()
            .filter_map(|policy| {
                let pattern = pattern(&policy.destination).ok()?;
                Some((pattern, policy.over(config)))
            })
            .collect(),
        weights: weights(&config.tenants),
    }
}

fn weights(tenants: &BTreeMap<String, TenantConfig>) -> Vec<(String, u32)> {
    tenants
        .iter()
        .filter(|(_, tenant)| tenant.weight != 1)
        .map(|(name, tenant)| (name.clone(), tenant.weight))
        .collect()
}

/// Domains are in lower case everywhere else.
fn pattern(text: &str) -> Result<DestinationPattern, String> {
    text.to_ascii_lowercase()
        .parse::<DestinationPattern>()
        .map_err(|_| {
            format!(
                "{text:?} is not a destination or a pattern of destinations, as \
                 \"smtp:example.org\", \"smtp:*.example.org\", \"mailbox:*\" or \"*\""
            )
        })
}

impl PolicyConfig {
    fn over(&self, config: &QueueConfig) -> Policy {
        Policy {
            retry: self.retry.over(&config.retry).schedule(),
            lifetime: self.lifetime.unwrap_or(config.lifetime).0,
            delay_warning: self.delay_warning.unwrap_or(config.delay_warning).0,
            unknown: self.unknown.unwrap_or(config.unknown).into(),
        }
    }
}

impl PolicyRetryConfig {
    fn over(&self, retry: &RetryConfig) -> RetryConfig {
        RetryConfig {
            first: self.first.unwrap_or(retry.first),
            factor: self.factor.unwrap_or(retry.factor),
            most: self.most.unwrap_or(retry.most),
            jitter: self.jitter.unwrap_or(retry.jitter),
        }
    }
}

/// What is wrong with a schedule, each with its key below `at`.
pub(super) fn retry_problems(retry: &RetryConfig, at: &str) -> Vec<String> {
    let checks = [
        (
            retry.first.0 >= Duration::from_millis(1),
            "first must be at least 1ms".to_owned(),
        ),
        (
            (1.0..=100.0).contains(&retry.factor),
            "factor must be from 1 to 100".to_owned(),
        ),
        (
            retry.most.0 >= retry.first.0,
            format!("most must not be less than {at}.first"),
        ),
        (
            (0.0..=0.5).contains(&retry.jitter),
            "jitter must be from 0 to 0.5".to_owned(),
        ),
    ];
    checks
        .into_iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, problem)| format!("{at}.{problem}"))
        .collect()
}

/// What is wrong with the policies and the tenants, each with its key.
pub(super) fn problems(config: &QueueConfig) -> Vec<String> {
    let mut problems = Vec::new();
    if config.policy.len() > MOST_POLICIES {
        problems.push(format!(
            "queue.policy has more than {MOST_POLICIES} entries"
        ));
    }
    let mut seen: Vec<DestinationPattern> = Vec::new();
    for (place, policy) in config.policy.iter().enumerate().take(MOST_POLICIES) {
        let at = format!("queue.policy[{place}]");
        match pattern(&policy.destination) {
            Err(problem) => problems.push(format!("{at}.destination: {problem}")),
            Ok(pattern) => {
                if seen.contains(&pattern) {
                    problems.push(format!(
                        "{at}.destination: {:?} stands in an earlier policy, so this one never counts",
                        policy.destination
                    ));
                } else if seen.contains(&DestinationPattern::All) {
                    problems.push(format!(
                        "{at} never counts, because an earlier one is for \"*\""
                    ));
                }
                seen.push(pattern);
            }
        }
        // A problem of the global schedule is told once, there.
        let own = policy.retry.over(&config.retry);
        if retry_problems(&config.retry, "").is_empty() {
            problems.extend(retry_problems(&own, &format!("{at}.retry")));
        }
        if policy
            .lifetime
            .is_some_and(|time| time.0 < Duration::from_secs(1))
        {
            problems.push(format!("{at}.lifetime must be at least 1s"));
        }
    }
    if config.tenants.len() > MOST_TENANTS {
        problems.push(format!(
            "queue.tenants has more than {MOST_TENANTS} entries"
        ));
    }
    for (name, tenant) in &config.tenants {
        if !(1..=LARGEST_WEIGHT).contains(&tenant.weight) {
            problems.push(format!(
                "queue.tenants.{name}.weight must be from 1 to {LARGEST_WEIGHT}"
            ));
        }
        if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
            problems.push(format!(
                "queue.tenants: {name:?} is no name of a tenant: 1 to 256 octets without control characters"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(policy: PolicyConfig) -> QueueConfig {
        QueueConfig {
            policy: vec![policy],
            ..QueueConfig::default()
        }
    }

    #[test]
    fn what_is_left_out_is_as_for_all() {
        let config = QueueConfig {
            delay_warning: DelayWarning(None),
            ..with(PolicyConfig {
                destination: "smtp:Slow.test".to_owned(),
                retry: PolicyRetryConfig {
                    first: Some(Period::seconds(7)),
                    ..PolicyRetryConfig::default()
                },
                unknown: Some(UnknownConfig::Hold),
                ..PolicyConfig::default()
            })
        };
        assert_eq!(config.validate(), Vec::<String>::new());
        let policies = config.policies();
        let slow = policies.of("smtp:slow.test");
        assert_eq!(slow.retry.first, Duration::from_secs(7));
        assert_eq!(slow.retry.most, config.retry.most.0);
        assert_eq!(slow.lifetime, config.lifetime.0);
        assert_eq!(slow.delay_warning, None);
        assert_eq!(slow.unknown, Unknown::Hold);
        let other = policies.of("smtp:other.test");
        assert_eq!(other.retry, config.retry.schedule());
        assert_eq!(other.unknown, Unknown::Retry);
    }

    #[test]
    fn each_flaw_names_its_key() {
        let flaw = |policy: PolicyConfig| {
            let problems = with(policy).validate();
            assert_eq!(problems.len(), 1, "{problems:?}");
            problems.into_iter().next().unwrap()
        };
        let named = PolicyConfig {
            destination: "smtp:*".to_owned(),
            ..PolicyConfig::default()
        };
        assert!(flaw(PolicyConfig::default()).starts_with("queue.policy[0].destination: \"\""));
        let mut short = named.clone();
        short.retry.most = Some(Period::seconds(1));
        assert_eq!(
            flaw(short),
            "queue.policy[0].retry.most must not be less than queue.policy[0].retry.first"
        );
        let mut wild = named.clone();
        wild.retry.jitter = Some(f64::NAN);
        assert!(flaw(wild).starts_with("queue.policy[0].retry.jitter"));
        let mut brief = named.clone();
        brief.lifetime = Some(Period::seconds(0));
        assert!(flaw(brief).starts_with("queue.policy[0].lifetime"));
        let twice = QueueConfig {
            policy: vec![named.clone(), named],
            ..QueueConfig::default()
        };
        assert!(twice.validate()[0].starts_with("queue.policy[1].destination"));
        let mut heavy = QueueConfig::default();
        heavy
            .tenants
            .insert("big".to_owned(), TenantConfig { weight: 0 });
        assert!(heavy.validate()[0].starts_with("queue.tenants.big.weight"));
    }

    #[test]
    fn a_warning_may_never_come() {
        for (text, time) in [
            ("never", None),
            ("0", None),
            ("0s", None),
            ("4h", Some(Duration::from_secs(4 * 3600))),
        ] {
            let warning: DelayWarning = text.parse().unwrap();
            assert_eq!(warning.0, time, "{text}");
            assert_eq!(
                warning.to_string().parse::<DelayWarning>().unwrap(),
                warning
            );
        }
        assert!("soon".parse::<DelayWarning>().is_err());
    }

    #[test]
    fn only_weights_that_differ_are_kept() {
        let mut config = QueueConfig::default();
        for (name, weight) in [("a", 1), ("b", 3)] {
            config
                .tenants
                .insert(name.to_owned(), TenantConfig { weight });
        }
        let policies = config.policies();
        assert_eq!(policies.weights, [("b".to_owned(), 3)]);
        assert_eq!(policies.weight("a"), 1);
    }
}
