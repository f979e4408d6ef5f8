//! A daemon on a host of the lab, started as an operator would start it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime};

use super::node::Node;
use super::process::LabProcess;
use super::subnet::Subnet;
use super::{LabError, tool};
use crate::sys::process::Signal;

/// The lease store of the daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreKind {
    /// A directory of the lab.
    #[default]
    Directory,
    /// The lab's etcd cluster.
    Etcd,
}

/// Options of a daemon's start.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// The lease store.
    pub lease_store: StoreKind,
    /// Flags in addition to the lab's own.
    pub flags: Vec<OsString>,
    /// The program, if not the lab's.
    pub binary: Option<PathBuf>,
}

/// A daemon, running or exited.
#[derive(Debug)]
pub struct Daemon {
    process: LabProcess,
    subnet_file: PathBuf,
    stats_file: PathBuf,
    socket: PathBuf,
    /// The subnet file that an earlier run left, by inode and modification time.
    before: Option<(u64, SystemTime)>,
    options: DaemonOptions,
}

impl DaemonOptions {
    /// Options with these flags and leases in a directory.
    pub fn with_flags<S: Into<OsString>>(flags: impl IntoIterator<Item = S>) -> Self {
        Self { flags: flags.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets the lease store.
    #[must_use]
    pub fn lease_store(mut self, store: StoreKind) -> Self {
        self.lease_store = store;
        self
    }
}

impl Daemon {
    /// Starts `binary` on `node` with the flags of its lease store, `store`, and those of `options`.
    pub(super) fn spawn(
        node: &Node,
        binary: &Path,
        store: &[String],
        options: DaemonOptions,
    ) -> Result<Self, LabError> {
        let directory = &node.directory;
        let subnet_file = directory.join("subnet.env");
        let stats_file = directory.join("stats.json");
        let _ = fs::remove_file(&stats_file);
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLANNELD_") || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        // The environment, because other versions of the program may not know the flag.
        let socket = directory.join("flannel-udp.sock");
        // The first --iface that fits is chosen, so that a test's own would not count.
        let names_one = options.flags.iter().any(|f| f.to_string_lossy().starts_with("--iface"));
        command
            .env("FLANNELD_SOCKET", &socket)
            .current_dir(directory)
            .args(store)
            .args((!names_one).then(|| format!("--iface={}", node.address)))
            .arg(format!("--subnet-file={}", subnet_file.display()))
            .arg(format!("--stats-json={}", stats_file.display()))
            .args(&options.flags);
        let what = format!("the daemon on {}", node.name);
        let before = identity(&subnet_file);
        let process = LabProcess::start(&node.netns, command, what, directory.join("daemon.log"))?;
        Ok(Self { process, subnet_file, stats_file, socket, before, options })
    }

    /// Waits until this run has written its subnet file and its device has the route to the network.
    pub(super) fn wait_until_ready(&mut self, netns: &str) -> Result<(), LabError> {
        let (file, before) = (self.subnet_file.clone(), self.before);
        self.process.wait_until(READY_TIMEOUT, || {
            identity(&file) != before
                && file.exists()
                && tool::ip_in(netns, "-4 route show").is_ok_and(|t| t.contains("dev flannel"))
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut LabProcess {
        &mut self.process
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The subnet in its `subnet.env`.
    pub fn subnet(&self) -> Result<Subnet, LabError> {
        Subnet::read(&self.subnet_file)
    }

    /// The path of its `subnet.env`.
    pub fn subnet_file(&self) -> &Path {
        &self.subnet_file
    }

    /// The path of its status socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The log of all its runs.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.process.log()).unwrap_or_default()).into_owned()
    }

    /// The file with the log of all its runs.
    pub fn log_file(&self) -> &Path {
        self.process.log()
    }

    /// The options of its start.
    pub fn options(&self) -> &DaemonOptions {
        &self.options
    }

    /// Its counters: those of now, requested with SIGUSR1, if it runs, otherwise those of its exit.
    pub fn stats(&mut self) -> Result<serde_json::Value, LabError> {
        let file = self.stats_file.clone();
        if self.process.ended().is_none() {
            let _ = fs::remove_file(&file);
            self.process.signal(Signal::User1)?;
            self.process.wait_until(STATS_TIMEOUT, || read_json(&file).is_ok())?;
        }
        read_json(&file)
    }

    /// Ends it with SIGTERM and returns its exit status.
    pub(super) fn stop(&mut self) -> Result<ExitStatus, LabError> {
        self.process.stop(STOP_TIMEOUT)
    }

    pub(super) fn keep(&mut self) {
        self.process.keep();
    }
}

fn read_json(path: &Path) -> Result<serde_json::Value, LabError> {
    let text = fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
    serde_json::from_str(&text).map_err(|e| LabError::file(path, e.into()))
}

/// Inode and modification time, by which a file differs from one that replaced it.
fn identity(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.modified().ok()?))
}

const READY_TIMEOUT: Duration = Duration::from_secs(20);
const STATS_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The network configuration of demo and benchmark.
pub const CONFIG: &str = r#"{"Network": "10.0.0.0/16", "SubnetLen": 24, "SubnetMin": "10.0.1.0", "SubnetMax": "10.0.20.0", "Backend": {"Type": "udp"}}"#;
