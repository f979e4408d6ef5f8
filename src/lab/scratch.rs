//! The directory of a lab, which is removed with the lab.

use std::fs;
use std::path::{Path, PathBuf};

use super::LabError;

/// A directory that is removed on drop.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Creates the directory of the lab whose names start with `prefix`.
    pub(super) fn new(prefix: &str) -> Result<Self, LabError> {
        let path = path_of(prefix);
        fs::create_dir(&path).map_err(|e| LabError::file(&path, e))?;
        Ok(Self { path, keep: false })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the directory when this value is dropped.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The directory of the lab whose names start with `prefix`, in the system's directory for temporary
/// files.
pub(super) fn path_of(prefix: &str) -> PathBuf {
    std::env::temp_dir().join(format!("flannel-udp-lab-{}", prefix.trim_end_matches('-')))
}
