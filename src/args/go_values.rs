//! Values of flanneld's flags, parsed as Go's `flag` package does.
//!
//! The error of each function is a sentence for the user.

use std::net::Ipv4Addr;

use crate::route::ipv4;

/// A boolean in one of the spellings of Go's `strconv.ParseBool`.
pub fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(
            "not a boolean: use true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)"
                .into(),
        ),
    }
}

/// An integer as Go's `strconv.ParseInt(text, 0, 64)` reads it: decimal, or with the prefix `0x`,
/// `0o`, `0b` or `0` (octal); `_` between digits, or between a digit and the prefix.
pub fn go_int(text: &str) -> Result<i64, String> {
    let bad = || "not an integer".to_owned();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if body.contains("__") || body.ends_with('_') || (radix == 10 && body.starts_with('_')) {
        return Err(bad());
    }
    let body: String = body.chars().filter(|c| *c != '_').collect();
    if body.is_empty() || !body.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(bad());
    }
    let magnitude = i128::from(u64::from_str_radix(&body, radix).map_err(|_| bad())?);
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| bad())
}

/// An integer of [`go_int`]'s spelling within `MIN..=MAX`.
pub fn go_int_in<const MIN: i64, const MAX: i64>(text: &str) -> Result<i64, String> {
    let value = go_int(text).map_err(|_| format!("must be an integer from {MIN} to {MAX}"))?;
    if (MIN..=MAX).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{value} is out of range: must be {MIN} to {MAX}"))
    }
}

/// An IPv4 address as Go's `net.ParseIP` reads it: also as an IPv4-mapped IPv6 address.
pub fn go_ipv4(text: &str) -> Result<Ipv4Addr, String> {
    ipv4(text).ok_or_else(|| "not an IPv4 address".to_owned())
}

/// A TCP port in [`go_int`]'s spelling; 0 disables the service.
pub fn go_port(text: &str) -> Result<u16, String> {
    let value = go_int(text)
        .map_err(|_| "must be a port number from 0 to 65535, such as 8080".to_owned())?;
    u16::try_from(value).map_err(|_| format!("{value} is out of range: must be 0 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_as_go_reads_them() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(go_bool(text), Ok(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(go_bool(text), Ok(false), "{text}");
        }
        for text in ["", "yes", "tRUE", "on", "2", " true"] {
            assert!(go_bool(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_as_go_reads_them() {
        let good = [
            ("0", 0),
            ("60", 60),
            ("-5", -5),
            ("+5", 5),
            ("0x10", 16),
            ("0X1f", 31),
            ("010", 8),
            ("0o17", 15),
            ("0b101", 5),
            ("0x_10", 16),
            ("0_10", 8),
            ("1_000", 1000),
            ("-1_2_3", -123),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, value) in good {
            assert_eq!(go_int(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "abc",
            "1.5",
            "_10",
            "1__0",
            "10_",
            "0x1_",
            "++5",
            "0x+5",
            "--5",
            "+-5",
            "0x",
            "08",
            " 1",
            "9223372036854775808",
        ] {
            assert!(go_int(text).is_err(), "{text}");
        }
        assert!(go_int_in::<1, 1439>("0").is_err());
        assert_eq!(go_int_in::<1, 1439>("1439"), Ok(1439));
        assert!(go_port("70000").is_err());
    }
}
