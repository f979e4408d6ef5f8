//! The addresses of the lease store's servers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::names::Names;

/// Finds the IPv4 addresses of `servers`, and resolves names again from time to time, for as long as
/// the returned channel is in use.
pub(super) async fn follow(servers: Vec<(String, u16)>) -> watch::Receiver<Vec<Ipv4Addr>> {
    let (names, literal): (Vec<_>, Vec<_>) =
        servers.into_iter().partition(|(host, _)| host.parse::<IpAddr>().is_err());
    let literal: Vec<Ipv4Addr> = literal.iter().filter_map(|(host, _)| host.parse().ok()).collect();
    let (sender, mut receiver) = watch::channel(literal.clone());
    if !names.is_empty() {
        tokio::spawn(async move {
            let resolver = Names::default();
            let mut known = vec![Vec::new(); names.len()];
            while !sender.is_closed() {
                for (name, known) in names.iter().zip(&mut known) {
                    // A name that cannot be resolved now keeps its last addresses.
                    if let Some(found) = resolve(&resolver, name).await {
                        *known = found;
                    }
                }
                let all = literal.iter().chain(known.iter().flatten()).copied().collect();
                sender.send_replace(all);
                sleep(INTERVAL).await;
            }
        });
        let _ = timeout(FIRST_ANSWER, receiver.changed()).await;
    }
    receiver
}

async fn resolve(resolver: &Names, (host, port): &(String, u16)) -> Option<Vec<Ipv4Addr>> {
    let found = resolver.resolve(host, *port, INTERVAL).await.ok()?;
    Some(
        found
            .into_iter()
            .filter_map(|address| Some(address.ip().to_canonical()).and_then(v4))
            .collect(),
    )
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Time between two resolutions of the names.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long the start waits for the first resolution. The store has answered by then, so the
/// resolver normally does too.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
