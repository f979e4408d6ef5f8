//! The type of service of the datagrams between hosts.

use std::str::FromStr;

/// The TOS byte (DSCP and ECN) of the outer header.
///
/// Its ECN bits are always zero, and nothing of it is copied on the way in: the compatibility mode of
/// RFC 6040, section 4.1. In the normal mode the receiver would have to copy marks back, which stock
/// flanneld does not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OuterTos {
    /// The DSCP of the inner packet.
    Inherit,
    /// This byte.
    Fixed(u8),
}

impl OuterTos {
    /// The byte that the socket puts in each header that no message sets another one for.
    pub(super) fn of_socket(self) -> u8 {
        match self {
            Self::Inherit => 0,
            Self::Fixed(tos) => tos,
        }
    }

    /// The bits of the inner packet's TOS byte that go to the outer header.
    pub(super) fn inherited(self) -> u8 {
        match self {
            Self::Inherit => !ECN,
            Self::Fixed(_) => 0,
        }
    }
}

impl Default for OuterTos {
    /// Zero, as with stock flanneld.
    fn default() -> Self {
        Self::Fixed(0)
    }
}

impl FromStr for OuterTos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "inherit" {
            return Ok(Self::Inherit);
        }
        let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let (digits, base) = hex.map_or((text, 10), |digits| (digits, 16));
        // `from_str_radix` takes a sign, too.
        let unsigned = Some(digits).filter(|digits| !digits.starts_with('+'));
        match unsigned.and_then(|digits| u8::from_str_radix(digits, base).ok()) {
            Some(tos) if tos & ECN == 0 => Ok(Self::Fixed(tos)),
            Some(tos) => Err(format!(
                "the two low bits of the TOS byte {tos:#04x} are ECN and must be zero; the six bits above \
                 them are the DSCP: DSCP 46 is {:#04x}, DSCP {} would be {:#04x}",
                46 << 2,
                tos >> 2,
                tos & !ECN
            )),
            None => Err(
                "use `inherit`, 0, or a TOS byte up to 252 (0xfc): four times the DSCP, such as 184 or \
                 0xb8 for DSCP 46"
                    .to_owned(),
            ),
        }
    }
}

/// The two low bits (RFC 3168).
const ECN: u8 = 0b11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tos_byte_has_no_ecn_bits() {
        for (text, tos) in [
            ("inherit", OuterTos::Inherit),
            ("0", OuterTos::default()),
            ("184", OuterTos::Fixed(184)),
            ("0xb8", OuterTos::Fixed(184)),
            ("0XFC", OuterTos::Fixed(252)),
        ] {
            assert_eq!(text.parse(), Ok(tos), "{text}");
        }
        for text in
            ["", "Inherit", "-4", "+4", "+", "0x", "0x+8", "256", "0x100", "1e1", "0b100", " 4"]
        {
            assert!(text.parse::<OuterTos>().unwrap_err().starts_with("use `inherit`"), "{text}");
        }
        let error = "46".parse::<OuterTos>().unwrap_err();
        assert!(error.contains("0x2e are ECN") && error.contains("DSCP 46 is 0xb8"), "{error}");
        assert!("0xb9".parse::<OuterTos>().unwrap_err().contains("DSCP 46 would be 0xb8"));
    }
}
