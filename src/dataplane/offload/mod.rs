//! The features of the kernel that the data path can use and can do without.
//!
//! Each has a file here with its name, the kernel that brought it, what it needs, how the kernel is
//! asked for it, how it is recognised that the kernel takes it back, and what its absence costs.
//! Setting up the device, `--help` and the table in `docs/architecture.md` go through
//! [`Feature::ALL`]; a new feature is a file and a line in the list below.

use std::io;
use std::net::UdpSocket;

use crate::sys::tun::TunQueue;

mod active;
mod batch;
pub(super) mod coalesce;
mod gro;
pub(super) mod gso;
mod selection;
mod uso;
mod vnet;

pub use active::{ActiveOffloads, FeatureState};
pub use selection::{Offloads, ParseOffloadError, Profile};

/// What there is to know about a feature.
pub struct Description {
    /// The name used in `--offload`, logs and statistics.
    pub name: &'static str,
    /// The part of the kernel's interface that it uses, as Markdown.
    pub uses: &'static str,
    /// The first release of Linux that has it; `None` for every release that has TUN devices.
    pub since: Option<&'static str>,
    /// What the data path does without it.
    pub without: &'static str,
    /// The features without which this one cannot be used.
    pub requires: &'static [Feature],
    /// How the kernel is asked at start.
    probe: Probe,
}

/// How the kernel is asked for a feature at start.
enum Probe {
    /// By `TUNSETIFF`, when the device is made: see [`super::device`].
    Attach(fn(&TunQueue)),
    /// With the first queue of the device.
    Queue(fn(&TunQueue, &ActiveOffloads)),
    /// With the sockets of all workers.
    Sockets(fn(&[UdpSocket]) -> Result<(), String>),
    /// Not at all: the first use that the kernel refuses disables it.
    FirstUse,
}

macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $description:path,)*) => {
        /// A feature of the kernel that the data path can use and can do without.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Feature { $($(#[$doc])* $variant,)* }

        impl Feature {
            /// All features, in the order of their numbers; one that requires another comes after it.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// What there is to know about it.
            pub const fn description(self) -> &'static Description {
                match self { $(Self::$variant => &$description,)* }
            }
        }
    };
}

features! {
    /// TUN super-packets and partial checksums.
    Vnet = vnet::VNET,
    /// UDP super-packets from the TUN.
    Uso = uso::USO,
    /// The kernel cuts a long send into datagrams.
    Gso = gso::GSO,
    /// The kernel joins datagrams that arrive.
    Gro = gro::GRO,
    /// Several TCP segments are written to the TUN as one super-packet.
    TcpCoalesce = coalesce::TCP,
    /// Several UDP datagrams are written to the TUN as one super-packet.
    UdpCoalesce = coalesce::UDP,
    /// Several messages per system call.
    Batch = batch::BATCH,
}

impl Feature {
    /// The name used in `--offload`, logs and statistics.
    pub fn name(self) -> &'static str {
        self.description().name
    }

    /// Asks the kernel for the feature with `socket`, as a data plane does. `None` if a socket is not
    /// what the kernel is asked with.
    ///
    /// # Errors
    /// The request, and what the kernel answered.
    pub fn probe_socket(self, socket: &UdpSocket) -> Option<Result<(), String>> {
        match self.description().probe {
            Probe::Sockets(probe) => Some(probe(std::slice::from_ref(socket))),
            Probe::Attach(_) | Probe::Queue(_) | Probe::FirstUse => None,
        }
    }

    /// What the data path does without the feature, and the kernel that has it.
    pub fn cost(self) -> String {
        let Description { without, since, .. } = self.description();
        let since = since.map(|version| format!(" (needs Linux {version})")).unwrap_or_default();
        format!("{without}{since}")
    }
}

/// Asks the kernel for what the device can do, by its first queue, and disables what it refuses.
pub(super) fn probe_queue(queue: &TunQueue, active: &ActiveOffloads) {
    disable_dependents(active);
    for feature in enabled(active) {
        match feature.description().probe {
            Probe::Attach(accept) => accept(queue),
            Probe::Queue(probe) => probe(queue, active),
            Probe::Sockets(_) | Probe::FirstUse => {}
        }
    }
}

/// Asks the kernel for what the sockets can do, and disables what it refuses.
pub(super) fn probe_sockets(sockets: &[UdpSocket], active: &ActiveOffloads) {
    for feature in enabled(active) {
        if let Probe::Sockets(probe) = feature.description().probe
            && let Err(why) = probe(sockets)
        {
            active.disable(feature, why);
        }
    }
}

/// Disables every feature that requires one that is not in use.
fn disable_dependents(active: &ActiveOffloads) {
    for feature in enabled(active) {
        let missing = feature.description().requires.iter().find(|&&other| !active.has(other));
        if let Some(missing) = missing {
            active.disable(feature, format!("needs {}", missing.name()));
        }
    }
}

fn enabled(active: &ActiveOffloads) -> impl Iterator<Item = Feature> {
    Feature::ALL.into_iter().filter(|&feature| active.has(feature))
}

/// The text for a request that the kernel refused.
fn refused(request: &str, error: &io::Error) -> String {
    format!("{request}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of features in the documentation is the list above.
    #[test]
    fn the_documentation_lists_every_feature() {
        let text = include_str!("../../../docs/architecture.md");
        for feature in Feature::ALL {
            let Description { name, uses, since, without, .. } = feature.description();
            let since = since.map(|version| format!(", Linux {version}")).unwrap_or_default();
            let row = format!("| `{name}` | {uses}{since} | {without} |");
            assert!(text.contains(&row), "docs/architecture.md lacks this row:\n{row}");
        }
    }

    #[test]
    fn a_feature_comes_after_those_that_it_requires() {
        for feature in Feature::ALL {
            for &other in feature.description().requires {
                assert!((other as u8) < feature as u8, "{feature:?} requires {other:?}");
            }
        }
    }

    #[test]
    fn without_the_virtio_header_nothing_that_needs_it_is_used() {
        let active = ActiveOffloads::new(Offloads::AUTO);
        active.disable(Feature::Vnet, "TUNSETIFF");
        disable_dependents(&active);
        let left: Vec<_> = enabled(&active).map(Feature::name).collect();
        assert_eq!(left, ["gso", "gro", "batch"]);
    }
}
