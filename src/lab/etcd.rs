//! A real etcd cluster on hosts of the lab.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::Process;
use super::topology::Lab;
use super::{LabError, interrupt};
use crate::sys::netns::Netns;
use crate::sys::process::Signal;

/// The cluster: one member on each of its hosts.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    process: Process,
    address: Ipv4Addr,
    host: usize,
}

impl Lab {
    /// Starts an etcd cluster with one member on each of the first `members` hosts, and puts
    /// `config` as the network's configuration.
    pub fn start_etcd(&mut self, members: usize, config: &str) -> Result<(), LabError> {
        let members = (0..members.min(self.hosts().len()))
            .map(|number| self.start_member(number, members))
            .collect::<Result<Vec<_>, _>>()?;
        self.etcd = Some(Etcd { members });
        self.put(&format!("{PREFIX}/config"), config)
    }

    fn start_member(&self, number: usize, members: usize) -> Result<Member, LabError> {
        let host = self.host(number);
        let address = host.address();
        let cluster: Vec<String> = self.hosts()[..members]
            .iter()
            .map(|h| format!("{}=http://{}:2380", h.name(), h.address()))
            .collect();
        let mut command = Command::new("etcd");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command
            .args(["--name", host.name(), "--data-dir"])
            .arg(host.directory().join("etcd"))
            .args(["--listen-client-urls", "http://0.0.0.0:2379"])
            .args(["--advertise-client-urls", &format!("http://{address}:2379")])
            .args(["--listen-peer-urls", &format!("http://{address}:2380")])
            .args(["--initial-advertise-peer-urls", &format!("http://{address}:2380")])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--initial-cluster-token", self.prefix(), "--initial-cluster-state", "new"]);
        let what = format!("etcd on {}", host.name());
        let log = host.directory().join("etcd.log");
        let process = Process::start(host.netns(), command, what, log)?;
        Ok(Member { process, address, host: number })
    }

    /// Puts one key, waiting for the cluster to have a leader.
    pub fn put(&mut self, key: &str, value: &str) -> Result<(), LabError> {
        self.with_etcd(|mut client| {
            let (key, value) = (key.to_owned(), value.to_owned());
            async move { client.put(key, value, None).await.map(drop) }
        })
    }

    /// Deletes one key.
    pub fn delete(&mut self, key: &str) -> Result<(), LabError> {
        self.with_etcd(|mut client| {
            let key = key.to_owned();
            async move { client.delete(key, None).await.map(drop) }
        })
    }

    /// All keys that start with `prefix`, with their values, in order.
    pub fn keys(&mut self, prefix: &str) -> Result<Vec<(String, String)>, LabError> {
        self.with_etcd(|mut client| {
            let prefix = prefix.to_owned();
            async move {
                let options = etcd_client::GetOptions::new().with_prefix();
                let answer = client.get(prefix, Some(options)).await?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Ok(answer.kvs().iter().map(|kv| (text(kv.key()), text(kv.value()))).collect())
            }
        })
    }

    /// Runs `work` with a client, inside the namespace of a member's host, until it succeeds or
    /// the cluster has had its time.
    pub fn with_etcd<T, F>(
        &mut self,
        work: impl Fn(etcd_client::Client) -> F + Sync,
    ) -> Result<T, LabError>
    where
        T: Send,
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let end = Instant::now() + READY_WITHIN;
        loop {
            let Some(etcd) = &mut self.etcd else {
                return Err(LabError::Etcd("this lab has none".into()));
            };
            let Some((host, url)) = etcd.running_member() else {
                return Err(LabError::Etcd(format!("no member runs: {}", etcd.last_words())));
            };
            match ask(self.hosts[host].netns(), &url, &work) {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => interrupt::sleep(Duration::from_millis(100))?,
            }
        }
    }
}

impl Etcd {
    /// Client URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| format!("http://{}:2379", m.address)).collect()
    }

    /// Freezes every member: clients' connections stay, nobody answers.
    pub fn freeze(&mut self) -> Result<(), LabError> {
        self.members.iter_mut().try_for_each(|m| m.process.signal(Signal::Stop))
    }

    /// Lets frozen members go on.
    pub fn thaw(&mut self) -> Result<(), LabError> {
        self.members.iter_mut().try_for_each(|m| m.process.signal(Signal::Continue))
    }

    /// Stops every member; their data stay.
    pub fn stop(&mut self) -> Result<(), LabError> {
        for member in &mut self.members {
            member.process.signal(Signal::Terminate)?;
        }
        self.members.iter_mut().try_for_each(|m| m.process.stop(PATIENCE).map(drop))
    }

    /// Starts stopped members again, with the data they had.
    pub fn start_again(lab: &mut Lab) -> Result<(), LabError> {
        let hosts: Vec<usize> = match &lab.etcd {
            Some(etcd) => etcd.members.iter().map(|m| m.host).collect(),
            None => return Err(LabError::Etcd("this lab has none".into())),
        };
        let members = hosts
            .iter()
            .map(|number| lab.start_member(*number, hosts.len()))
            .collect::<Result<Vec<_>, _>>()?;
        lab.etcd = Some(Self { members });
        Ok(())
    }

    pub(super) fn keep(&mut self) {
        self.members.iter_mut().for_each(|m| m.process.keep());
    }

    fn running_member(&mut self) -> Option<(usize, String)> {
        let running = |m: &mut Member| {
            m.process.ended().is_none().then(|| (m.host, format!("http://{}:2379", m.address)))
        };
        self.members.iter_mut().find_map(running)
    }

    fn last_words(&self) -> String {
        self.members.first().map(|m| m.process.last_words()).unwrap_or_default()
    }
}

fn ask<T, F>(
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
            match tokio::time::timeout(ANSWER_WITHIN, talk).await {
                Ok(answer) => answer.map_err(|e| failed(&e)),
                Err(_) => Err(failed(&"no answer")),
            }
        })
    });
    asked.map_err(|e| failed(&e))?
}

/// The prefix of all keys, flannel's default.
pub const PREFIX: &str = "/coreos.com/network";

const READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);
