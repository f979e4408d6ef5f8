//! The value of `--workers`.

use std::fmt;
use std::str::FromStr;

/// The value of `--workers`: the number of packet workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One per two available cores, at most 8.
    #[default]
    Auto,
    /// This many.
    Count(u16),
}

/// Most workers that may be requested: TUN queues per device, `MAX_TAP_QUEUES` in Linux'
/// `drivers/net/tun.c`.
const MAX_WORKERS: u16 = 256;

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "0" => Ok(Self::Auto),
            _ => match text.parse::<u16>() {
                Ok(count @ 1..=MAX_WORKERS) => Ok(Self::Count(count)),
                _ => Err(format!(
                    "must be auto or a number from 1 to {MAX_WORKERS}, such as --workers=2"
                )),
            },
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_prints_as_it_is_parsed() {
        for text in ["auto", "1", "8", "256"] {
            assert_eq!(text.parse::<Workers>().unwrap().to_string(), text);
        }
        assert_eq!("0".parse(), Ok(Workers::Auto));
        assert!("257".parse::<Workers>().is_err());
    }
}
