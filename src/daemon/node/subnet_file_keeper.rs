//! Keeps the subnet file, and the record of its origin beside it, as the daemon promises them: written again when
//! they are removed or changed, or when they could not be written before.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::exit::{Code, Exit};
use crate::host::subnet_file::{self, SubnetFile};
use crate::observe::warnings::{Condition, WarningKind, Warnings};
use crate::output_file;
use crate::subnet::SubnetFileOrigin;

/// What the two files say.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::daemon) struct SubnetFiles {
    pub(in crate::daemon) file: SubnetFile,
    pub(in crate::daemon) origin: SubnetFileOrigin,
}

/// Writes the files. It holds a lock on the record of the origin, so that no other daemon uses the same files.
#[derive(Debug)]
pub(in crate::daemon) struct SubnetFileKeeper {
    path: PathBuf,
    warnings: Warnings,
    /// The record, locked; `None` if there can be none.
    record: Option<File>,
    /// Device and inode of the file's directory at the start, which the confinement is bound to.
    directory: Option<(u64, u64)>,
    written: Option<SubnetFile>,
    /// Consecutive checks that found the file changed.
    restored: u32,
}

impl SubnetFileKeeper {
    /// Takes the lock on the record of the file at `path`.
    ///
    /// # Errors
    /// Another daemon holds it.
    pub(in crate::daemon) fn open(path: &Path, warnings: Warnings) -> Result<Self, Exit> {
        let mut keeper = Self {
            path: path.to_owned(),
            warnings,
            record: None,
            directory: path.parent().and_then(identity),
            written: None,
            restored: 0,
        };
        match keeper.lock_record() {
            Ok(()) => Ok(keeper),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Exit::new(
                Code::Unavailable,
                format!(
                    "another daemon on this host writes the subnet file {}: give each daemon its own with \
                     --subnet-file=FILE",
                    path.display()
                ),
            )),
            Err(error) => {
                tracing::debug!(%error, "cannot record the origin of the subnet file");
                Ok(keeper)
            }
        }
    }

    /// Looks after the files until the sender of `wanted` is dropped.
    pub(super) async fn run(mut self, mut wanted: watch::Receiver<SubnetFiles>) {
        let mut ticks = interval(CHECK_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = wanted.changed() => if changed.is_err() { return },
            }
            let now = wanted.borrow_and_update().clone();
            // A file system that hangs must not stop the control thread.
            let looked = tokio::task::spawn_blocking(move || {
                self.check(&now);
                self
            });
            match looked.await {
                Ok(keeper) => self = keeper,
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    /// Writes what is missing or different.
    pub(super) fn check(&mut self, wanted: &SubnetFiles) {
        let now = self.restore(wanted).err().into_iter().collect();
        self.warnings.set(WarningKind::SubnetFile, now);
    }

    fn restore(&mut self, wanted: &SubnetFiles) -> Result<(), Condition> {
        let path = self.path.clone();
        let path = path.display();
        let is_news = self.written.as_ref() != Some(&wanted.file);
        if output_file::target(&self.path).is_some() {
            // The record is written first: alone it has no effect, while a subnet file without one would be
            // trusted on any machine.
            if let Err(error) = self.write_record(&wanted.origin) {
                tracing::debug!(%error, "cannot record the origin of the subnet file");
            }
            let found = fs::read_to_string(&self.path);
            let intact = found.as_ref().is_ok_and(|text| *text == wanted.file.to_string());
            if intact && !is_news {
                self.restored = 0;
                return Ok(());
            }
            if !is_news {
                let what = if found.is_ok() { "had been changed" } else { "was missing" };
                self.restored += 1;
                match self.restored {
                    ..MAX_LOGGED => {
                        tracing::warn!("the subnet file {path} {what}; writing it again");
                    }
                    MAX_LOGGED => tracing::error!(
                        "another program keeps removing or changing the subnet file {path}; writing it again \
                         each time, without further messages"
                    ),
                    _ => {}
                }
            }
        } else if !is_news {
            return Ok(());
        }
        if let Err(error) = subnet_file::write(&self.path, &wanted.file) {
            self.written = None;
            return Err(self.unwritable(&error.to_string()));
        }
        if is_news {
            tracing::info!(file = %path, subnet = %wanted.file.subnet, "wrote the subnet file");
        }
        self.written = Some(wanted.file);
        Ok(())
    }

    fn unwritable(&self, error: &str) -> Condition {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        if self.directory.is_some() && identity(directory) != self.directory {
            return Condition {
                text: format!(
                    "{error}; {} was removed or mounted over, and the confined daemon may write only to the \
                     directory that existed when it started",
                    directory.display()
                ),
                remedy: Some("`systemctl restart flannel-udp`".into()),
            };
        }
        Condition {
            text: format!("{error}; container runtimes do not get this host's subnet"),
            remedy: Some(format!(
                "let the daemon write to {}, or set --subnet-file; it retries every {} s",
                directory.display(),
                CHECK_PERIOD.as_secs()
            )),
        }
    }

    /// Opens and locks the record, again if it has been removed.
    fn lock_record(&mut self) -> io::Result<()> {
        if output_file::target(&self.path).is_none() {
            return Ok(());
        }
        let path = SubnetFileOrigin::path(&self.path);
        let held = self.record.as_ref().and_then(|file| file.metadata().ok());
        if held.is_some_and(|held| identity(&path) == Some((held.dev(), held.ino()))) {
            return Ok(());
        }
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
        {
            fs::create_dir_all(directory)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let file = options.open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        self.record = Some(file);
        Ok(())
    }

    fn write_record(&mut self, origin: &SubnetFileOrigin) -> io::Result<()> {
        self.lock_record()?;
        match &self.record {
            Some(file) => origin.save(file),
            None => Ok(()),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Time between two checks of the files.
const CHECK_PERIOD: Duration = Duration::from_secs(2);

/// Consecutive checks with a changed file that are logged.
const MAX_LOGGED: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn files(subnet: &str) -> SubnetFiles {
        let subnet = subnet.parse().unwrap();
        SubnetFiles {
            file: SubnetFile {
                network: "10.0.0.0/16".parse().unwrap(),
                subnet,
                mtu: 1472,
                ip_masq: false,
            },
            origin: SubnetFileOrigin::new("m", "etcd 1 /a", subnet),
        }
    }

    #[test]
    fn a_file_that_is_removed_or_changed_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/subnet.env");
        let warnings = Warnings::default();
        let mut keeper = SubnetFileKeeper::open(&path, warnings.clone()).unwrap();
        for (wanted, harm) in [
            (files("10.0.7.0/24"), None),
            (files("10.0.8.0/24"), Some("")),
            (files("10.0.8.0/24"), None),
            (files("10.0.8.0/24"), Some("FLANNEL_SUBNET=10.0.9.1/24\n")),
        ] {
            keeper.check(&wanted);
            match harm {
                Some("") => fs::remove_dir_all(path.parent().unwrap()).unwrap(),
                Some(text) => fs::write(&path, text).unwrap(),
                None => {}
            }
            keeper.check(&wanted);
            assert_eq!(fs::read_to_string(&path).unwrap(), wanted.file.to_string());
            let origin = SubnetFileOrigin::load(&SubnetFileOrigin::path(&path));
            assert_eq!(origin.as_ref(), Some(&wanted.origin));
            assert_eq!(warnings.all(), []);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_a_warning_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        let warnings = Warnings::default();
        let mut keeper = SubnetFileKeeper::open(&path, warnings.clone()).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "").unwrap();
        keeper.check(&files("10.0.7.0/24"));
        let all = warnings.all();
        assert!(
            all[0].text.contains("cannot write the subnet file") && all[0].not_ready,
            "{all:?}"
        );
        fs::remove_dir_all(&path).unwrap();
        keeper.check(&files("10.0.7.0/24"));
        assert_eq!(warnings.all(), []);
        assert!(path.is_file());
    }

    #[test]
    fn two_daemons_do_not_share_a_subnet_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        let open = || SubnetFileKeeper::open(&path, Warnings::default());
        let mut first = open().unwrap();
        let refused = open().unwrap_err();
        assert_eq!(refused.code, Code::Unavailable);
        assert!(refused.message.contains("--subnet-file=FILE"), "{}", refused.message);
        fs::remove_file(SubnetFileOrigin::path(&path)).unwrap();
        first.check(&files("10.0.7.0/24"));
        open().unwrap_err();
        drop(first);
        open().unwrap();
        // A device is nobody's.
        let shared = || SubnetFileKeeper::open(Path::new("/dev/null"), Warnings::default());
        let (one, other) = (shared(), shared());
        assert!(one.is_ok() && other.is_ok());
        assert!(!Path::new("/dev/null.origin").exists());
    }
}
