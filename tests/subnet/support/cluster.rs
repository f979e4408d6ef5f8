//! An etcd cluster of several members.

use super::{Etcd, free_port};

/// A cluster of real members on loopback.
pub struct Cluster {
    pub members: Vec<Etcd>,
}

impl Cluster {
    pub async fn start(size: usize) -> Self {
        let peers: Vec<String> =
            (0..size).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let list: Vec<String> =
            peers.iter().enumerate().map(|(n, url)| format!("m{n}={url}")).collect();
        let list = list.join(",");
        let mut members: Vec<Etcd> = peers
            .iter()
            .enumerate()
            .map(|(n, url)| {
                let name = format!("m{n}");
                Etcd::new(&[
                    "--name",
                    &name,
                    "--listen-peer-urls",
                    url,
                    "--initial-advertise-peer-urls",
                    url,
                    "--initial-cluster",
                    &list,
                ])
            })
            .collect();
        for member in &mut members {
            member.spawn();
        }
        for member in &mut members {
            assert!(member.ready().await, "a member did not start");
        }
        Self { members }
    }

    /// The index of the leader.
    pub async fn leader(&self) -> usize {
        for _ in 0..200 {
            for (number, member) in self.members.iter().enumerate() {
                if !member.runs() {
                    continue;
                }
                let status = member.client().await.status().await;
                if let Ok(status) = status
                    && let Some(header) = status.header()
                    && header.member_id() == status.leader()
                {
                    return number;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no member leads");
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::url).collect()
    }
}
