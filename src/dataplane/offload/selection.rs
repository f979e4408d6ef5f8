//! Which features the operator allows, and the profile that follows from it.

use std::fmt;
use std::str::FromStr;

use super::Feature;

/// Which features of the kernel may be used; each is still asked for before it is.
///
/// Text form: `auto` (all), `off` (none: one packet per system call), or a list of feature names.
/// A list that begins with `auto` and goes on with `-name` takes features away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offloads(u8);

impl Offloads {
    /// Every feature.
    pub const AUTO: Self = Self((1 << Feature::ALL.len()) - 1);
    /// No feature.
    pub const OFF: Self = Self(0);

    /// Whether `feature` may be used.
    pub fn allows(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    /// How the data plane is set up under this selection.
    pub fn profile(self) -> Profile {
        if self == Self::OFF { Profile::Stock } else { Profile::Full }
    }

    /// The same with `feature` allowed or not.
    #[must_use]
    pub fn with(self, feature: Feature, allowed: bool) -> Self {
        let bit = 1 << feature as u8;
        Self(if allowed { self.0 | bit } else { self.0 & !bit })
    }
}

/// How the data plane is set up beyond the features themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// `--offload=off`: the loop of stock flannel's proxy. A worker is one thread with one queue,
    /// it does not poll before it sleeps, and buffers and queues keep the kernel's default sizes.
    Stock,
    /// Everything else.
    Full,
}

impl Profile {
    /// Whether this is [`Profile::Stock`].
    pub fn is_stock(self) -> bool {
        self == Self::Stock
    }
}

/// The text names no set of offloads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseOffloadError(String);

impl fmt::Display for ParseOffloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown offload {:?}: use auto, off, or a comma-separated list of", self.0)?;
        Feature::ALL.iter().try_for_each(|feature| write!(f, " {},", feature.name()))?;
        f.write_str(" coalesce; after auto, - excludes one, as in auto,-gso")
    }
}

impl std::error::Error for ParseOffloadError {}

impl FromStr for Offloads {
    type Err = ParseOffloadError;

    fn from_str(text: &str) -> Result<Self, ParseOffloadError> {
        let mut offloads = Self::OFF;
        for (index, word) in text.split(',').map(str::trim).enumerate() {
            match word {
                "auto" if index == 0 => offloads = Self::AUTO,
                "off" if text == "off" => {}
                _ => {
                    let (name, allowed) = match word.strip_prefix('-') {
                        Some(name) => (name, false),
                        None => (word, true),
                    };
                    let mut known = false;
                    for feature in Feature::ALL {
                        if feature.name() == name
                            || (name == "coalesce" && feature.name().ends_with("-coalesce"))
                        {
                            offloads = offloads.with(feature, allowed);
                            known = true;
                        }
                    }
                    if !known {
                        return Err(ParseOffloadError(word.to_owned()));
                    }
                }
            }
        }
        Ok(offloads)
    }
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AUTO => return f.write_str("auto"),
            Self::OFF => return f.write_str("off"),
            _ => {}
        }
        let mut comma = "";
        for feature in Feature::ALL.into_iter().filter(|&feature| self.allows(feature)) {
            write!(f, "{comma}{}", feature.name())?;
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_round_trip() {
        for text in ["auto", "off", "vnet", "vnet,gso", "gso,gro,batch"] {
            assert_eq!(text.parse::<Offloads>().unwrap().to_string(), text);
        }
        for bits in 0..=Offloads::AUTO.0 {
            assert_eq!(Offloads(bits).to_string().parse(), Ok(Offloads(bits)));
        }
    }

    #[test]
    fn features_are_taken_away() {
        let offloads: Offloads = "auto,-udp-coalesce".parse().unwrap();
        assert_eq!(offloads, Offloads::AUTO.with(Feature::UdpCoalesce, false));
        let offloads: Offloads = "auto, -coalesce".parse().unwrap();
        assert!(!offloads.allows(Feature::TcpCoalesce) && !offloads.allows(Feature::UdpCoalesce));
        assert!(offloads.allows(Feature::Gso));
    }

    #[test]
    fn unknown_words_are_named() {
        for text in ["", "fast", "gso,off", "gso,auto", "auto,,gso"] {
            assert!(text.parse::<Offloads>().is_err(), "{text:?}");
        }
        assert!("gso,fast".parse::<Offloads>().unwrap_err().to_string().contains("\"fast\""));
    }
}
