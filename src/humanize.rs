//! Durations, counts, rates and sizes as text for people.

use std::time::Duration;

/// The commands in a text: what stands between backquotes. A command that is printed runs as it is.
pub fn commands(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A message of several lines as one.
pub fn on_one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

/// A text for a terminal: control characters, which could be escape sequences, are written as `\u{1b}`.
pub fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_unicode().to_string() } else { c.into() };
    text.chars().map(escaped).collect()
}

/// A duration in its two largest units, such as `23 h 59 min`.
pub fn duration(time: Duration) -> String {
    let (seconds, minutes) = (time.as_secs(), time.as_secs() / 60);
    match minutes {
        0 => format!("{seconds} s"),
        1..60 => format!("{minutes} min"),
        60..2880 => format!("{} h {:02} min", minutes / 60, minutes % 60),
        _ => format!("{} d {:02} h", minutes / 1440, minutes / 60 % 24),
    }
}

/// How long ago something was, in its largest unit: `59 min`.
pub fn age(seconds: f64) -> String {
    match seconds.max(0.0) as u64 {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ ..3600 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A number of seconds, with tenths below 10 s; from there on as [`duration`].
pub fn seconds(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{:.1} s", seconds.max(0.0)),
        _ => duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    }
}

/// A count with thousands separators, such as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun, in the singular or the plural: `1 peer`, `1,234 peers`, `2 entries`.
pub fn counted(number: u64, noun: &str) -> String {
    let nouns = match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    };
    format!("{} {}", count(number), agree(number, noun, &nouns))
}

/// The word that agrees with a number: `one` for 1, `many` for every other.
pub fn agree<'a>(number: u64, one: &'a str, many: &'a str) -> &'a str {
    if number == 1 { one } else { many }
}

/// A rate in events per second, without a unit; with tenths below 10.
pub fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".into(),
        ..10.0 => format!("{per_second:.1}"),
        _ => count(per_second.round() as u64),
    }
}

/// A rate in bytes per second, printed in bits per second: `1.0 kbit/s`.
pub fn bits(bytes_per_second: f64) -> String {
    scaled(bytes_per_second * 8.0, "bit/s")
}

/// A number of bytes, such as `12.3 GB` (decimal prefixes).
pub fn bytes(number: u64) -> String {
    scaled(number as f64, "B")
}

fn scaled(number: f64, unit: &str) -> String {
    let (scale, prefix) = match number {
        ..1e3 => return format!("{number:.0} {unit}"),
        // Not `1000.0 k`: the next unit begins where rounding reaches it.
        ..999.95e3 => (1e3, "k"),
        ..999.95e6 => (1e6, "M"),
        ..999.95e9 => (1e9, "G"),
        _ => (1e12, "T"),
    };
    format!("{:.1} {prefix}{unit}", number / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_largest_units() {
        let text = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(text(59), "59 s");
        assert_eq!(text(60), "1 min");
        assert_eq!(text(86_340), "23 h 59 min");
        assert_eq!(text(172_800), "2 d 00 h");
        assert_eq!(seconds(0.34), "0.3 s");
        assert_eq!(seconds(-0.1), "0.0 s");
        assert_eq!(seconds(61.0), "1 min");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "peer"), "1 peer");
        assert_eq!(
            counted(0, "route") + ", " + &counted(1_200, "entry"),
            "0 routes, 1,200 entries"
        );
        assert_eq!(rate(0.25), "0.2");
        assert_eq!(rate(1234.4), "1,234");
        assert_eq!(bits(125.0), "1.0 kbit/s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!((bytes(999_949), bytes(999_950)), ("999.9 kB".into(), "1.0 MB".into()));
        assert_eq!(
            [59.9, 3599.0, 172_799.0, 172_800.0].map(age),
            ["59 s", "59 min", "47 h", "2 d"]
        );
        assert_eq!(bytes(12_345_678_901), "12.3 GB");
    }
}
