//! The value of `--harden`: the layers that are asked for.

use std::fmt;
use std::str::FromStr;

/// A mechanism that confines the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Layer {
    /// Files, TCP ports and signals: `landlock(7)`, Linux 5.19.
    Landlock,
    /// Privileges of the superuser: `capabilities(7)`.
    Capabilities,
    /// System calls: `seccomp(2)`.
    Seccomp,
}

impl Layer {
    /// All layers, in the order in which they are applied.
    pub const ALL: [Self; 3] = [Self::Landlock, Self::Capabilities, Self::Seccomp];

    /// The name used in `--harden`, logs and the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Capabilities => "capabilities",
            Self::Seccomp => "seccomp",
        }
    }
}

/// The layers that are applied if the kernel has them.
///
/// Text form: `auto` (all), `off` (none), a list of names, or `auto` and exceptions
/// (`auto,-landlock`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layers(u8);

impl Layers {
    /// Every layer.
    pub const AUTO: Self = Self((1 << Layer::ALL.len()) - 1);
    /// No layer.
    pub const OFF: Self = Self(0);

    /// Whether `layer` is asked for.
    pub fn has(self, layer: Layer) -> bool {
        self.0 & 1 << layer as u8 != 0
    }
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut layers = Self::OFF;
        for (index, word) in text.split(',').map(str::trim).enumerate() {
            let (name, wanted) = match word.strip_prefix('-') {
                Some(name) => (name, false),
                None => (word, true),
            };
            match Layer::ALL.into_iter().find(|layer| layer.name() == name) {
                Some(layer) if wanted => layers.0 |= 1 << layer as u8,
                Some(layer) => layers.0 &= !(1 << layer as u8),
                None if word == "auto" && index == 0 => layers = Self::AUTO,
                None if text == "off" => {}
                None => {
                    return Err(format!(
                        "unknown layer {word:?}: must be auto, off, some of landlock, capabilities, \
                         seccomp, or auto with exceptions: auto,-landlock"
                    ));
                }
            }
        }
        Ok(layers)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AUTO => f.write_str("auto"),
            Self::OFF => f.write_str("off"),
            _ => {
                let on = Layer::ALL.into_iter().filter(|layer| self.has(*layer));
                f.write_str(&on.map(Layer::name).collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_prints_as_it_is_read() {
        for bits in 0..=Layers::AUTO.0 {
            assert_eq!(Layers(bits).to_string().parse(), Ok(Layers(bits)));
        }
        assert_eq!("auto,-landlock".parse(), "capabilities,seccomp".parse::<Layers>());
        assert_eq!("auto, -landlock,-capabilities,-seccomp".parse(), Ok(Layers::OFF));
    }

    #[test]
    fn unknown_words_are_named() {
        for text in ["", "on", "off,seccomp", "seccomp,auto", "auto,,seccomp", "-"] {
            assert!(text.parse::<Layers>().is_err(), "{text:?}");
        }
        assert!("auto,-selinux".parse::<Layers>().unwrap_err().contains("\"-selinux\""));
    }
}
