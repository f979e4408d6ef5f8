//! Daemons and their containers on the hosts of a lab.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::Lab;
use crate::lab::daemon::{Daemon, DaemonOptions, StoreKind};
use crate::lab::{LabError, etcd};

impl Lab {
    /// Creates the directory for leases, with `config` as the network configuration, and returns its path.
    pub fn create_store_directory(&self, config: &str) -> Result<PathBuf, LabError> {
        let directory = self.store_directory();
        fs::create_dir_all(&directory).map_err(|e| LabError::file(&directory, e))?;
        let file = directory.join("config");
        fs::write(&file, config).map_err(|e| LabError::file(&file, e))?;
        Ok(directory)
    }

    /// The path of the directory for leases.
    pub fn store_directory(&self) -> PathBuf {
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

    /// Starts a daemon on host `number` without waiting. A daemon that runs there is stopped first.
    pub fn spawn_daemon(&mut self, number: usize, options: DaemonOptions) -> Result<(), LabError> {
        let binary = options.binary.clone().map_or_else(|| self.binary(), Ok)?;
        let store = match options.lease_store {
            StoreKind::Directory => {
                vec![format!("--registry=file:{}", self.store_directory().display())]
            }
            StoreKind::Etcd => {
                let urls: Vec<String> = self.etcd().map(|e| e.endpoints()).unwrap_or_default();
                vec![
                    format!("--etcd-endpoints={}", urls.join(",")),
                    format!("--etcd-prefix={}", etcd::PREFIX),
                ]
            }
        };
        let host = self.host_mut(number);
        host.daemon = None;
        let daemon = Daemon::spawn(&host.node, &binary, &store, options)?;
        host.daemon = Some(daemon);
        Ok(())
    }

    /// Waits until the daemon on host `number` forwards packets.
    pub fn wait_for_daemon(&mut self, number: usize) -> Result<(), LabError> {
        let host = self.host_mut(number);
        let netns = host.netns_name().to_owned();
        match &mut host.daemon {
            Some(daemon) => daemon.wait_until_ready(&netns),
            None => Err(LabError::Unusable(format!("{} has no daemon", host.name()))),
        }
    }

    /// Stops the daemon on host `number` with SIGTERM and returns its exit status.
    pub fn stop_daemon(&mut self, number: usize) -> Result<ExitStatus, LabError> {
        let host = self.host_mut(number);
        match &mut host.daemon {
            Some(daemon) => daemon.stop(),
            None => Err(LabError::Unusable(format!("{} has no daemon", host.name()))),
        }
    }

    /// Adds a container to host `number`, in the subnet that its daemon's `subnet.env` states.
    pub fn add_container(&mut self, number: usize) -> Result<(), LabError> {
        let host = self.host_mut(number);
        let subnet = match &host.daemon {
            Some(daemon) => daemon.subnet()?,
            None => return Err(LabError::Unusable(format!("{} has no daemon", host.name()))),
        };
        host.add_container(subnet).map(drop)
    }
}
