//! Where a subnet file comes from.
//!
//! `subnet.env` says which subnet this host had, and its format has no room for more. But disks
//! are cloned, and hosts move to other clusters; then the file speaks of somebody else. So a note
//! beside it says which machine wrote it and in which registry the subnet was leased. A file
//! without a note, or with one about another subnet, is stock flanneld's, and is believed.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::route::Cidr;

/// The note beside a subnet file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SubnetFileOrigin {
    machine: String,
    #[serde(rename = "registry")]
    store: String,
    subnet: String,
}

impl SubnetFileOrigin {
    /// A note for this machine; `registry` names the content of the registry, as
    /// [`LeaseStore::identity`](super::LeaseStore::identity) does.
    pub fn here(store: &str, subnet: Cidr) -> Self {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Self::new(machine.trim(), store, subnet)
    }

    /// A note for any machine.
    pub fn new(machine: &str, store: &str, subnet: Cidr) -> Self {
        Self { machine: machine.into(), store: store.into(), subnet: subnet.to_string() }
    }

    /// Where the note of a subnet file is kept.
    pub fn path(subnet_file: &Path) -> PathBuf {
        let mut name = subnet_file.as_os_str().to_owned();
        name.push(".origin");
        name.into()
    }

    /// Reads a note; what cannot be read says nothing.
    pub fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Writes the note in one step.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(temporary, path)
    }

    /// Why a subnet file with this note is not to be believed here; `None` if it is.
    pub fn mismatch(&self, here: &Self) -> Option<String> {
        if self.subnet != here.subnet {
            return None;
        }
        let differ =
            |ours: &str, theirs: &str| !ours.is_empty() && !theirs.is_empty() && ours != theirs;
        if differ(&self.machine, &here.machine) {
            return Some(format!("it was written on another machine ({})", self.machine));
        }
        if differ(&self.store, &here.store) {
            return Some(format!("it belongs to another registry ({})", self.store));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_believed() {
        let subnet = "10.0.7.0/24".parse().unwrap();
        let here = SubnetFileOrigin::new("m1", "etcd 1 /a", subnet);
        assert_eq!(here.mismatch(&here), None);
        assert!(
            SubnetFileOrigin::new("m2", "etcd 1 /a", subnet)
                .mismatch(&here)
                .unwrap()
                .contains("m2")
        );
        assert!(
            SubnetFileOrigin::new("m1", "etcd 2 /a", subnet)
                .mismatch(&here)
                .unwrap()
                .contains("etcd 2")
        );
        assert_eq!(
            SubnetFileOrigin::new("", "etcd 1 /a", subnet).mismatch(&here),
            None,
            "nothing is known"
        );
        let stale = SubnetFileOrigin::new("m2", "etcd 2 /a", "10.0.8.0/24".parse().unwrap());
        assert_eq!(stale.mismatch(&here), None, "it speaks of another file");
    }

    #[test]
    fn notes_are_kept() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = SubnetFileOrigin::path(&dir.path().join("run/subnet.env"));
        assert!(path.ends_with("run/subnet.env.origin"));
        assert_eq!(SubnetFileOrigin::load(&path), None);
        let note = SubnetFileOrigin::here("etcd 1 /a", "10.0.7.0/24".parse().unwrap());
        note.save(&path).unwrap();
        assert_eq!(SubnetFileOrigin::load(&path), Some(note));
        std::fs::write(&path, "garbage").unwrap();
        assert_eq!(SubnetFileOrigin::load(&path), None);
    }
}
