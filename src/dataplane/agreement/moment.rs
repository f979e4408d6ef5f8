//! A moment as text, RFC 3339 in UTC, to the second; and the calendar for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `time` as in `2026-11-28T17:04:05Z`.
pub(crate) fn text(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / DAY, seconds % DAY);
    // The Gregorian calendar repeats itself every 400 years; the year begins in March, so that the
    // day that may be missing is its last.
    let days = days + DAYS_TO_1970;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Seconds from 1970 to a year, month, day, hour, minute and second in UTC; `None` before that, or if
/// there is no such date.
pub(crate) fn seconds([year, month, day, hour, minute, second]: [u64; 6]) -> Option<u64> {
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    let is_time = hour < 24 && minute < 60 && second <= 60;
    if !is_date || !is_time || year > 9_999 {
        return None;
    }
    let year = year.checked_sub(u64::from(month <= 2))?;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
    Some(days.checked_sub(DAYS_TO_1970)? * DAY + hour * 3_600 + minute * 60 + second)
}

/// What [`text`] wrote.
fn parse(text: &str) -> Option<SystemTime> {
    let numbers = text.strip_suffix('Z')?.split(['-', 'T', ':']);
    let numbers: Vec<u64> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds(numbers.try_into().ok()?)?))
}

pub(super) fn serialize<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(text).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SystemTime>, D::Error> {
    let written = Option::<String>::deserialize(deserializer)?;
    let read = |text: String| {
        parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no moment")))
    };
    written.map(read).transpose()
}

/// Seconds.
const DAY: u64 = 86_400;
/// From the 1st of March of the year 0.
const DAYS_TO_1970: u64 = 719_468;
const DAYS_OF_ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (784_111_777, "1994-11-06T08:49:37Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(text(time), written);
            assert_eq!(parse(written), Some(time), "{written}");
        }
        for hour in 0..60 * 366 * 24 {
            let time = UNIX_EPOCH + Duration::from_secs(hour * 3_600);
            assert_eq!(parse(&text(time)), Some(time), "{time:?}");
        }
        for bad in ["", "now", "2026-11-28", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
