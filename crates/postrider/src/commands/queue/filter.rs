//! What the command line says of deliveries, destinations and times, in the queue's words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use postrider_protocol::queue_v1::Filter;
use postrider_protocol::{Destination, destination};

use crate::cli::{EndArgs, FilterArgs};

/// The filter that the arguments describe.
pub(super) fn filter(args: &FilterArgs) -> anyhow::Result<Filter> {
    let now = now();
    let ago = |time: Duration| micros(now.saturating_sub(time)).max(1);
    Ok(Filter {
        queue_ids: args.queue_ids.clone(),
        destination: args.destination.as_deref().map_or(Ok(String::new()), to)?,
        sender: args.sender.clone().unwrap_or_default(),
        recipient: args.recipient.clone().unwrap_or_default(),
        tenant: args.tenant.clone().unwrap_or_default(),
        held: args.held,
        suspended: args.suspended,
        unknown: args.unknown,
        accepted_before_us: args.older_than.map_or(0, |time| ago(time.0)),
        accepted_after_us: args.newer_than.map_or(0, |time| ago(time.0)),
        min_attempts: args.attempts.unwrap_or(0),
        last_reply: args.reply.clone().unwrap_or_default(),
    })
}

/// A destination, or a pattern of them; a bare domain means SMTP.
pub(super) fn to(text: &str) -> anyhow::Result<String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let text = text.to_ascii_lowercase();
    let destination = match text.contains(':') && !text.starts_with('[') {
        true => text
            .parse::<Destination>()
            .with_context(|| format!("{text:?}"))?,
        false => Destination::new(destination::SMTP, &text),
    };
    Ok(destination.to_string())
}

/// When something ends by itself, in Unix microseconds; 0 if it does not.
pub(super) fn end(args: &EndArgs) -> anyhow::Result<u64> {
    let at = match (&args.until, args.for_time) {
        (Some(text), _) => u64::try_from(instant(text)?.as_microsecond()).unwrap_or(0),
        (None, Some(time)) => micros(now() + time.0),
        (None, None) => return Ok(0),
    };
    if at <= micros(now()) {
        bail!("its end is in the past");
    }
    Ok(at)
}

fn instant(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(stamp);
    }
    let civil: DateTime = text.parse().with_context(|| {
        format!("{text:?} is no time such as \"2026-11-25 10:30\" or \"2026-11-25T10:30:00Z\"")
    })?;
    Ok(TimeZone::UTC.to_timestamp(civil)?)
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use postrider_config::values::Period;

    use super::*;

    #[test]
    fn a_bare_domain_means_smtp() {
        assert_eq!(to("Example.org").unwrap(), "smtp:example.org");
        assert_eq!(to("*.example.org").unwrap(), "smtp:*.example.org");
        assert_eq!(to("mailbox:a.test").unwrap(), "mailbox:a.test");
        assert_eq!(to("mailbox:*").unwrap(), "mailbox:*");
        assert_eq!(to("*").unwrap(), "*");
        assert_eq!(to("[192.0.2.1]").unwrap(), "smtp:[192.0.2.1]");
        assert!(to("smtp:").is_err());
    }

    #[test]
    fn ages_become_times() {
        let filter = |older: Option<u64>, newer: Option<u64>| {
            filter(&FilterArgs {
                older_than: older.map(Period::seconds),
                newer_than: newer.map(Period::seconds),
                ..FilterArgs::default()
            })
            .unwrap()
        };
        assert_eq!(filter(None, None), Filter::default());
        let hour = filter(Some(3600), Some(7200));
        let now = micros(now());
        assert!(now.abs_diff(hour.accepted_before_us + 3_600_000_000) < 10_000_000);
        assert!(now.abs_diff(hour.accepted_after_us + 7_200_000_000) < 10_000_000);
    }

    #[test]
    fn ends_are_in_the_future() {
        let until = |text: &str| {
            end(&EndArgs {
                until: Some(text.to_owned()),
                for_time: None,
            })
        };
        assert_eq!(until("2100-01-01 00:00").unwrap(), 4_102_444_800_000_000);
        assert_eq!(until("2100-01-01T01:00+01").unwrap(), 4_102_444_800_000_000);
        assert!(until("2020-01-01 00:00").is_err());
        assert!(until("tomorrow").is_err());
        let never = EndArgs {
            until: None,
            for_time: None,
        };
        assert_eq!(end(&never).unwrap(), 0);
    }
}
