//! The modes that are compared.

use std::ffi::OsString;
use std::path::PathBuf;

use super::args::BenchArgs;
use crate::lab::{LabError, Tunnel};

/// A way to carry packets between the two hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mode {
    /// Its name in the tables.
    pub(super) name: String,
    pub(super) backend: Backend,
    /// Whether `--variant` added it.
    pub(super) is_variant: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backend {
    /// Plain routing.
    Plain,
    /// The kernel's VXLAN.
    Vxlan,
    /// Our daemon, or the program `binary`, with these flags on the first and second host.
    Daemon { binary: Option<PathBuf>, flags: [Vec<OsString>; 2] },
    /// Our daemon with its defaults, polled for metrics and status every second.
    Watched,
    /// A program that runs the stock daemon's loop.
    Loop(PathBuf),
    /// The tunnel of another project.
    Tunnel(Tunnel),
}

impl Mode {
    /// The modes that the arguments ask for.
    pub(super) fn chosen(arguments: &BenchArgs) -> Result<Vec<Self>, LabError> {
        let mut modes = Vec::new();
        for name in &arguments.modes {
            modes.push(Self::built_in(name).ok_or_else(|| {
                let tunnels = Tunnel::ALL.iter().map(|tunnel| tunnel.name());
                let known = BUILT_IN.into_iter().chain(tunnels).collect::<Vec<_>>().join(", ");
                LabError::Unusable(format!("--modes: unknown mode {name}; known: {known}"))
            })?);
        }
        for variant in &arguments.variants {
            modes.push(Self::variant(variant).ok_or_else(|| {
                LabError::Unusable(format!("--variant={variant}: expected NAME=FLAGS"))
            })?);
        }
        if let Some(path) = &arguments.baseline {
            let (name, backend) = (BASELINE.to_owned(), Backend::Loop(path.clone()));
            modes.push(Self { name, backend, is_variant: false });
        }
        Ok(modes)
    }

    fn built_in(name: &str) -> Option<Self> {
        let daemon = |one: &[&str], two: &[&str]| Backend::Daemon {
            binary: None,
            flags: [one, two].map(|flags| flags.iter().map(OsString::from).collect()),
        };
        let off = ["--offload=off", "--workers=1"];
        let backend = match name {
            // The routes of flannel's `host-gw` backend are those of the plain underlay.
            "underlay" | "host-gw" => Backend::Plain,
            "vxlan" => Backend::Vxlan,
            OURS => daemon(&[], &[]),
            OFF => daemon(&off, &off),
            SPIN0 => daemon(&["--spin=0"], &["--spin=0"]),
            HALF => daemon(&[], &off),
            WATCHED => Backend::Watched,
            _ => Backend::Tunnel(Tunnel::ALL.into_iter().find(|tunnel| tunnel.name() == name)?),
        };
        Some(Self { name: name.to_owned(), backend, is_variant: false })
    }

    /// Whether it encrypts packets.
    pub(super) fn encrypts(&self) -> bool {
        matches!(self.backend, Backend::Tunnel(tunnel) if tunnel.encrypts())
    }

    fn variant(text: &str) -> Option<Self> {
        let (name, words) = text.split_once('=')?;
        let mut words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        let is_path = words.first().is_some_and(|w| !w.to_string_lossy().starts_with('-'));
        let binary = is_path.then(|| PathBuf::from(words.remove(0)));
        let backend = Backend::Daemon { binary, flags: [words.clone(), words] };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), backend, is_variant: true })
    }
}

/// The daemon with its defaults.
pub(super) const OURS: &str = "flannel-udp";

/// The daemon with one packet per system call and one worker, as the stock daemon works.
pub(super) const OFF: &str = "off";

/// The daemon with its defaults, polled for metrics and status every second.
pub(super) const WATCHED: &str = "watched";

/// The daemon with `--spin=0`.
pub(super) const SPIN0: &str = "spin0";

/// The daemon with offloads on one end only.
pub(super) const HALF: &str = "half";

/// The program that `--baseline` names.
pub(super) const BASELINE: &str = "baseline";

/// Names that `--modes` takes beside those of other projects' tunnels.
const BUILT_IN: [&str; 8] = ["underlay", "host-gw", "vxlan", OURS, OFF, SPIN0, HALF, WATCHED];
