//! Dates as extensions write them (RFC 3339 section 5.6).

use core::fmt;

/// A moment, in whole seconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DateTime(pub u64);

impl DateTime {
    /// Reads a `date-time`: `2026-11-25T10:00:00Z`, `2026-11-25T10:00:00.5+01:00`. A fraction
    /// counts up to the next second, so that nothing happens before the moment that was meant; what
    /// lies before 1970 is 1970. `None` if it is none, e.g. because there is no such day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let (year, month, day) = match date.as_bytes() {
            [year @ .., b'-', m1, m2, b'-', d1, d2] => {
                (digits(year)?, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?)
            }
            _ => return None,
        };
        let (time, rest) = rest.split_at_checked(9)?;
        let (hour, minute, second) = match time.as_bytes() {
            [b'T' | b't', h1, h2, b':', m1, m2, b':', s1, s2] => (
                digits(&[*h1, *h2])?,
                digits(&[*m1, *m2])?,
                digits(&[*s1, *s2])?,
            ),
            _ => return None,
        };
        let (fraction, zone) = match rest.strip_prefix('.') {
            Some(rest) => {
                let end = rest.find(|char: char| !char.is_ascii_digit())?;
                let (fraction, zone) = rest.split_at(end);
                (!fraction.is_empty()).then_some(())?;
                (fraction.bytes().any(|digit| digit != b'0'), zone)
            }
            None => (false, rest),
        };
        // 60 is a leap second.
        let exists = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        if !exists {
            return None;
        }
        let days = days_since_1970(year, month, day);
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second + i64::from(fraction);
        let seconds = seconds - offset(zone)?;
        Some(Self(u64::try_from(seconds).unwrap_or(0)))
    }
}

/// As UTC, `2026-11-25T10:00:00Z`. The last year that has four digits stands for all later ones.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// 9999-12-31T23:59:59Z
        const LAST: u64 = 253_402_300_799;
        let seconds = self.0.min(LAST);
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Decimal digits and nothing else.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

/// `Z`, `+01:00`, `-00:00`: seconds ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    match zone.as_bytes() {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let seconds = (hours * 60 + minutes) * 60;
            let exists = hours < 24 && minutes < 60;
            exists.then_some(if *sign == b'+' { seconds } else { -seconds })
        }
        _ => None,
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts in years that begin on 1 March, so that a leap day is the last of its year: 400 years are
/// always 146,097 days, and the months from March on repeat 31-30-31-30-31.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The reverse: year, month and day from 1.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn parse(text: &str) -> Option<u64> {
        DateTime::parse(text).map(|moment| moment.0)
    }

    #[test]
    fn known_moments() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2000-02-29T12:34:56Z"), Some(951_827_696));
        assert_eq!(parse("2026-11-25t10:00:00z"), Some(1_795_600_800));
        assert_eq!(parse("2026-11-25T10:00:00+01:30"), Some(1_795_595_400));
        assert_eq!(parse("2026-11-25T10:00:00-00:30"), Some(1_795_602_600));
        assert_eq!(parse("2026-11-25T10:00:00.000Z"), Some(1_795_600_800));
        assert_eq!(parse("2026-11-25T10:00:00.001Z"), Some(1_795_600_801));
        assert_eq!(parse("1900-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("9999-12-31T23:59:60Z"), Some(253_402_300_800));
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "2026-11-25",
            "2026-11-25T10:00:00",
            "2026-11-25 10:00:00Z",
            "2026-11-25T10:00Z",
            "2026-11-25T10:00:00.Z",
            "2026-11-25T10:00:00.5",
            "2026-11-25T10:00:00+0100",
            "2026-11-25T10:00:00+24:00",
            "2026-11-25T10:00:00Zx",
            "2026-13-25T10:00:00Z",
            "2026-00-25T10:00:00Z",
            "2026-02-29T10:00:00Z",
            "1900-02-29T10:00:00Z",
            "2026-04-31T10:00:00Z",
            "2026-11-00T10:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T10:60:00Z",
            "2026-11-25T10:00:61Z",
            "+026-11-25T10:00:00Z",
            "２026-11-25T10:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let mut moment = 0;
        while moment < 20_000_000_000 {
            let text = DateTime(moment).to_string();
            assert_eq!(parse(&text), Some(moment), "{text}");
            moment += 40_000_003;
        }
        assert_eq!(DateTime(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }
}
