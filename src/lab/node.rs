//! A machine of the lab: a network namespace with an address on the underlay and a directory.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::LabError;
use crate::sys::netns::Netns;

/// A network namespace with an address on the underlay, and a directory for files.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) netns: Netns,
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) directory: PathBuf,
}

impl Node {
    /// Creates node `number` of the lab whose names start with `prefix`, with IP forwarding on and a
    /// directory below `scratch`.
    pub(super) fn create(
        prefix: &str,
        number: usize,
        address: Ipv4Addr,
        scratch: &Path,
    ) -> Result<Self, LabError> {
        let name = format!("node{}", number + 1);
        let netns = create_netns(&format!("{prefix}{name}"))?;
        let directory = scratch.join(&name);
        fs::create_dir(&directory).map_err(|e| LabError::file(&directory, e))?;
        let node = Self { netns, name, address, directory };
        node.sysctl("net/ipv4/ip_forward", "1")?;
        Ok(node)
    }

    /// The name of the namespace, for `ip -n`.
    pub(super) fn netns_name(&self) -> &str {
        self.netns.name().unwrap_or_default()
    }

    /// Sets a sysctl in the namespace; `key` with slashes (`net/ipv4/ip_forward`).
    pub(super) fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = Path::new("/proc/sys").join(key);
        let written = self.netns.enter(|| fs::write(&path, value)).and_then(|written| written);
        written.map_err(|e| LabError::file(path, e))
    }
}

/// Creates a namespace called `name`.
pub(super) fn create_netns(name: &str) -> Result<Netns, LabError> {
    Netns::create(name).map_err(|source| LabError::Netns { name: name.to_owned(), source })
}
