//! A daemon on a lab host, run as an operator would run it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime};

use super::host::{Host, Subnet};
use super::process::Process;
use super::topology::Lab;
use super::{LabError, etcd, tool};
use crate::sys::process::Signal;

/// Where the daemons keep their leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registry {
    /// A directory of the lab's.
    #[default]
    Files,
    /// The lab's etcd cluster.
    Etcd,
}

/// How to start a daemon.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// Where leases are kept.
    pub registry: Registry,
    /// More flags, after the lab's own.
    pub flags: Vec<OsString>,
    /// Another program than the lab's.
    pub binary: Option<PathBuf>,
}

/// A daemon that runs, or ran.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    subnet_file: PathBuf,
    stats_file: PathBuf,
    socket: PathBuf,
    /// The subnet file an earlier run left.
    before: Option<(u64, SystemTime)>,
    options: DaemonOptions,
}

impl DaemonOptions {
    /// Options with these flags and the file registry.
    pub fn with_flags<S: Into<OsString>>(flags: impl IntoIterator<Item = S>) -> Self {
        Self { flags: flags.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The same with another registry.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }
}

impl Lab {
    /// The directory of the file registry, made with `config` as the network's configuration.
    pub fn create_file_registry(&self, config: &str) -> Result<PathBuf, LabError> {
        let directory = self.registry_directory();
        fs::create_dir_all(&directory).map_err(|e| LabError::file(&directory, e))?;
        let file = directory.join("config");
        fs::write(&file, config).map_err(|e| LabError::file(&file, e))?;
        Ok(directory)
    }

    /// Where the file registry is.
    pub fn registry_directory(&self) -> PathBuf {
        self.directory().join("registry")
    }

    /// Starts a daemon on every host and waits until all are ready.
    pub fn start_daemons(&mut self, options: &DaemonOptions) -> Result<(), LabError> {
        for number in 0..self.hosts().len() {
            self.spawn_daemon(number, options.clone())?;
        }
        (0..self.hosts().len()).try_for_each(|number| self.wait_for_daemon(number))
    }

    /// Starts a daemon on host `number` and waits until it is ready.
    pub fn start_daemon(&mut self, number: usize, options: DaemonOptions) -> Result<(), LabError> {
        self.spawn_daemon(number, options)?;
        self.wait_for_daemon(number)
    }

    /// Starts a daemon on host `number` without waiting. One that ran there is stopped first.
    pub fn spawn_daemon(&mut self, number: usize, options: DaemonOptions) -> Result<(), LabError> {
        let binary = options.binary.clone().map_or_else(|| self.binary(), Ok)?;
        let registry = match options.registry {
            Registry::Files => {
                vec![format!("--registry=file:{}", self.registry_directory().display())]
            }
            Registry::Etcd => {
                let urls: Vec<String> = self.etcd().map(|e| e.endpoints()).unwrap_or_default();
                vec![
                    format!("--etcd-endpoints={}", urls.join(",")),
                    format!("--etcd-prefix={}", etcd::PREFIX),
                ]
            }
        };
        let host = self.host_mut(number);
        host.daemon = None;
        let daemon = Daemon::spawn(host, &binary, &registry, options)?;
        host.daemon = Some(daemon);
        Ok(())
    }

    /// Waits until the daemon on host `number` carries packets.
    pub fn wait_for_daemon(&mut self, number: usize) -> Result<(), LabError> {
        let host = self.host_mut(number);
        let netns = host.netns_name().to_owned();
        match &mut host.daemon {
            Some(daemon) => daemon.wait_until_ready(&netns),
            None => Err(LabError::Unusable(format!("{} has no daemon", host.name))),
        }
    }

    /// Stops the daemon on host `number` with SIGTERM and says how it ended.
    pub fn stop_daemon(&mut self, number: usize) -> Result<ExitStatus, LabError> {
        let host = self.host_mut(number);
        match &mut host.daemon {
            Some(daemon) => daemon.process.stop(PATIENCE),
            None => Err(LabError::Unusable(format!("{} has no daemon", host.name))),
        }
    }

    /// Adds a container to host `number`, with what its daemon's `subnet.env` says.
    pub fn add_container(&mut self, number: usize) -> Result<(), LabError> {
        let host = self.host_mut(number);
        let subnet = match &host.daemon {
            Some(daemon) => daemon.subnet()?,
            None => return Err(LabError::Unusable(format!("{} has no daemon", host.name))),
        };
        host.add_container(subnet).map(drop)
    }
}

impl Daemon {
    fn spawn(
        host: &Host,
        binary: &Path,
        registry: &[String],
        options: DaemonOptions,
    ) -> Result<Self, LabError> {
        let directory = host.directory();
        let subnet_file = directory.join("subnet.env");
        let stats_file = directory.join("stats.json");
        let _ = fs::remove_file(&stats_file);
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLANNELD_") || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        // A variable, not a flag: other versions of the program do not know it.
        let socket = directory.join("flannel-udp.sock");
        command
            .env("FLANNELD_SOCKET", &socket)
            .current_dir(directory)
            .args(registry)
            .arg(format!("--iface={}", host.address()))
            .arg(format!("--subnet-file={}", subnet_file.display()))
            .arg(format!("--stats-json={}", stats_file.display()))
            .args(&options.flags);
        let what = format!("the daemon on {}", host.name());
        let before = identity(&subnet_file);
        let process = Process::start(host.netns(), command, what, directory.join("daemon.log"))?;
        Ok(Self { process, subnet_file, stats_file, socket, before, options })
    }

    /// Ready: this run has written its subnet file and its device is up with the network's route.
    fn wait_until_ready(&mut self, netns: &str) -> Result<(), LabError> {
        let (file, before) = (self.subnet_file.clone(), self.before);
        self.process.wait_until(READY_WITHIN, || {
            identity(&file) != before
                && file.exists()
                && tool::ip_in(netns, "-4 route show").is_ok_and(|t| t.contains("dev flannel"))
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it told the containers' side.
    pub fn subnet(&self) -> Result<Subnet, LabError> {
        Subnet::read(&self.subnet_file)
    }

    /// Where its `subnet.env` is.
    pub fn subnet_file(&self) -> &Path {
        &self.subnet_file
    }

    /// Where it answers `status` and the like.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Everything it has logged, over all its runs.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.process.log()).unwrap_or_default()).into_owned()
    }

    /// The file with everything it has logged.
    pub fn log_file(&self) -> &Path {
        self.process.log()
    }

    /// How it was started.
    pub fn options(&self) -> &DaemonOptions {
        &self.options
    }

    /// Its counters now: asks with SIGUSR1 while it runs, reads what it left at its end otherwise.
    pub fn stats(&mut self) -> Result<serde_json::Value, LabError> {
        let file = self.stats_file.clone();
        if self.process.ended().is_none() {
            let _ = fs::remove_file(&file);
            self.process.signal(Signal::User1)?;
            self.process.wait_until(STATS_WITHIN, || read_json(&file).is_ok())?;
        }
        read_json(&file)
    }

    pub(super) fn keep(&mut self) {
        self.process.keep();
    }
}

fn read_json(path: &Path) -> Result<serde_json::Value, LabError> {
    let text = fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
    serde_json::from_str(&text).map_err(|e| LabError::file(path, e.into()))
}

/// Tells a file from one that replaced it.
fn identity(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.modified().ok()?))
}

const READY_WITHIN: Duration = Duration::from_secs(20);
const STATS_WITHIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
