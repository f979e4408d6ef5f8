//! The origin of a subnet file: the machine and the lease store that it belongs to.
//!
//! `subnet.env` names this host's previous subnet, and its format has no field for anything else.
//! But disks are cloned and hosts move to other clusters, and then the file belongs to another host
//! or cluster. A second file beside it therefore records the machine that wrote it and the lease
//! store of its subnet. A subnet file without that record, or whose record is about another subnet,
//! was written by stock flanneld, and is trusted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::route::Cidr;

/// The record beside a subnet file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SubnetFileOrigin {
    machine: String,
    #[serde(rename = "registry")]
    store: String,
    subnet: String,
}

impl SubnetFileOrigin {
    /// A record for this machine; `store` is the lease store's
    /// [`identity`](super::LeaseStore::identity).
    pub fn here(store: &str, subnet: Cidr) -> Self {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Self::new(machine.trim(), store, subnet)
    }

    /// A record for any machine, identified by its machine ID (`machine-id(5)`).
    pub fn new(machine: &str, store: &str, subnet: Cidr) -> Self {
        Self { machine: machine.into(), store: store.into(), subnet: subnet.to_string() }
    }

    /// The path of a subnet file's record.
    pub fn path(subnet_file: &Path) -> PathBuf {
        let mut name = subnet_file.as_os_str().to_owned();
        name.push(".origin");
        name.into()
    }

    /// Reads a record; `None` if it is absent or cannot be read.
    pub fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Writes the record into an open file, unless it is there already. The file stays the same one, because
    /// its lock belongs to a daemon.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn save(&self, file: &File) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let mut now = vec![0; text.len() + 1];
        let len = file.read_at(&mut now, 0)?;
        if now[..len] == text {
            return Ok(());
        }
        file.write_all_at(&text, 0)?;
        file.set_len(text.len() as u64)
    }

    /// Why a subnet file with this record does not belong here; `None` if it does, or if the record
    /// does not say.
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
            return Some(format!("it belongs to another lease store ({})", self.store));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_machine_or_store_is_a_mismatch() {
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
        assert_eq!(stale.mismatch(&here), None, "the record is about another file");
    }

    #[test]
    fn records_are_written_and_read() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = SubnetFileOrigin::path(&dir.path().join("subnet.env"));
        assert!(path.ends_with("subnet.env.origin"));
        assert_eq!(SubnetFileOrigin::load(&path), None);
        let record = SubnetFileOrigin::here("etcd 1 /a", "10.0.7.0/24".parse().unwrap());
        std::fs::write(&path, "a longer text that was there before").unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        record.save(&open()).unwrap();
        record.save(&open()).unwrap();
        assert_eq!(SubnetFileOrigin::load(&path), Some(record));
        std::fs::write(&path, "garbage").unwrap();
        assert_eq!(SubnetFileOrigin::load(&path), None);
    }
}
