//! Times as people read them.

use std::time::Duration;

/// "2026-11-24 23:41:07.123" in UTC.
#[must_use]
pub fn instant(unix_us: u64) -> String {
    let stamp = i64::try_from(unix_us)
        .ok()
        .and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    stamp.map_or_else(
        || "unknown".to_owned(),
        |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string(),
    )
}

/// "23:41:07" in UTC.
#[must_use]
pub fn of_day(unix_us: u64) -> String {
    instant(unix_us)
        .get(11..19)
        .map_or_else(String::new, ToOwned::to_owned)
}

/// A length of time in the unit that shows it best: "3.4 ms", "12 s", "2h 5m", "4d 3h".
#[must_use]
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{:.1} ms", length.as_secs_f64() * 1_000.0),
        1..60 => format!("{:.1} s", length.as_secs_f64()),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Milliseconds for a time column: "12.3", or "1204" where the decimal says nothing any more.
#[must_use]
pub fn milliseconds(us: u64) -> String {
    if us < 1_000_000 {
        format!("{}.{}", us / 1_000, us % 1_000 / 100)
    } else {
        format!("{}", us / 1_000)
    }
}

/// The time from one instant to another, none if the clock went back.
#[must_use]
pub fn between(from_us: u64, to_us: u64) -> Duration {
    Duration::from_micros(to_us.saturating_sub(from_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(instant(1_764_027_667_123_456), "2025-11-24 23:41:07.123");
        assert_eq!(of_day(1_764_027_667_123_456), "23:41:07");
        assert_eq!(instant(u64::MAX), "unknown");
        assert_eq!(span(Duration::from_micros(3_440)), "3.4 ms");
        assert_eq!(span(Duration::from_secs(12)), "12.0 s");
        assert_eq!(span(Duration::from_secs(7_500)), "2h 5m");
        assert_eq!(span(Duration::from_secs(356_400)), "4d 3h");
        assert_eq!(milliseconds(12_340), "12.3");
        assert_eq!(milliseconds(1_204_340), "1204");
    }
}
