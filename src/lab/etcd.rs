//! An etcd cluster on hosts of the lab.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use super::LabError;
use super::node::Node;
use super::process::LabProcess;
use crate::sys::netns::Netns;
use crate::sys::process::Signal;

/// An etcd cluster with one member on each of its hosts.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    process: LabProcess,
    address: Ipv4Addr,
    host: usize,
}

impl Member {
    /// Starts member `host` of a cluster with one member on each of `nodes`. `token` tells the cluster
    /// from others.
    fn start(nodes: &[&Node], host: usize, token: &str) -> Result<Self, LabError> {
        let node = nodes[host];
        let address = node.address;
        let cluster: Vec<String> = nodes
            .iter()
            .map(|node| format!("{}=http://{}:2380", node.name, node.address))
            .collect();
        let mut command = Command::new("etcd");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command
            .args(["--name", &node.name, "--data-dir"])
            .arg(node.directory.join("etcd"))
            .args(["--listen-client-urls", "http://0.0.0.0:2379"])
            .args(["--advertise-client-urls", &format!("http://{address}:2379")])
            .args(["--listen-peer-urls", &format!("http://{address}:2380")])
            .args(["--initial-advertise-peer-urls", &format!("http://{address}:2380")])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--initial-cluster-token", token, "--initial-cluster-state", "new"]);
        let what = format!("etcd on {}", node.name);
        let log = node.directory.join("etcd.log");
        let process = LabProcess::start(&node.netns, command, what, log)?;
        Ok(Self { process, address, host })
    }
}

impl Etcd {
    /// Starts a cluster with one member on each of `nodes`; a member continues with the data that an
    /// earlier one left there.
    pub(super) fn start(nodes: &[&Node], token: &str) -> Result<Self, LabError> {
        let members = (0..nodes.len()).map(|host| Member::start(nodes, host, token));
        Ok(Self { members: members.collect::<Result<_, _>>()? })
    }

    /// How many members the cluster has.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Client URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| format!("http://{}:2379", m.address)).collect()
    }

    /// Stops every member with SIGSTOP: connections stay open, requests get no answer.
    pub fn freeze(&mut self) -> Result<(), LabError> {
        self.members.iter_mut().try_for_each(|m| m.process.signal(Signal::Stop))
    }

    /// Continues every member after [`Self::freeze`].
    pub fn thaw(&mut self) -> Result<(), LabError> {
        self.members.iter_mut().try_for_each(|m| m.process.signal(Signal::Continue))
    }

    /// Ends every member; their data remain.
    pub fn stop(&mut self) -> Result<(), LabError> {
        for member in &mut self.members {
            member.process.signal(Signal::Terminate)?;
        }
        self.members.iter_mut().try_for_each(|m| m.process.stop(STOP_TIMEOUT).map(drop))
    }

    pub(super) fn keep(&mut self) {
        self.members.iter_mut().for_each(|m| m.process.keep());
    }

    /// A member that runs: the number of its host, and its client URL.
    pub(super) fn running_member(&mut self) -> Option<(usize, String)> {
        let running = |m: &mut Member| {
            m.process.ended().is_none().then(|| (m.host, format!("http://{}:2379", m.address)))
        };
        self.members.iter_mut().find_map(running)
    }

    /// The last lines that the first member logged.
    pub(super) fn last_lines(&self) -> String {
        self.members.first().map(|m| m.process.last_lines()).unwrap_or_default()
    }
}

/// Runs `work` in `netns` with a client connected to `url`.
pub(super) fn ask<T, F>(
    netns: &Netns,
    url: &str,
    work: impl Fn(etcd_client::Client) -> F + Sync,
) -> Result<T, LabError>
where
    T: Send,
    F: Future<Output = Result<T, etcd_client::Error>>,
{
    let failed = |e: &dyn std::fmt::Display| LabError::Etcd(format!("{url}: {e}"));
    let asked = netns.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(&e))?;
        runtime.block_on(async {
            let talk = async {
                let client = etcd_client::Client::connect([url], None).await?;
                work(client).await
            };
            match tokio::time::timeout(ANSWER_TIMEOUT, talk).await {
                Ok(answer) => answer.map_err(|e| failed(&e)),
                Err(_) => Err(failed(&"no answer")),
            }
        })
    });
    asked.map_err(|e| failed(&e))?
}

/// The prefix of all keys: flannel's default.
pub const PREFIX: &str = "/coreos.com/network";

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
