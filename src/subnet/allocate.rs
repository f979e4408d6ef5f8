//! The choice of a subnet for a new host.

use crate::route::Cidr;
use crate::subnet::NetworkConfig;

/// A free subnet of `config`, drawn evenly from the first [`CANDIDATES`] that overlap no subnet in
/// `taken`; `None` if no subnet is free. This is flannel's rule (`allocateSubnet` in
/// `pkg/subnet/etcd/local_manager.go`), so both programs draw from the same candidates.
pub fn pick(config: &NetworkConfig, taken: &[Cidr], rng: &mut fastrand::Rng) -> Option<Cidr> {
    let free = free(config, taken, CANDIDATES);
    rng.choice(free)
}

/// The first `limit` subnets of `config` that overlap no subnet in `taken`.
pub fn free(config: &NetworkConfig, taken: &[Cidr], limit: usize) -> Vec<Cidr> {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    let mut taken = taken.into_iter().peekable();
    // Prefixes nest or are disjoint. Of all prefixes that begin at or before a subnet's last
    // address, only the one with the highest last address can still overlap the subnet.
    let mut highest: Option<u32> = None;
    config
        .subnets()
        .filter(|subnet| {
            while let Some(next) = taken.next_if(|next| next.network() <= subnet.last()) {
                highest = highest.max(Some(next.last().to_bits()));
            }
            highest.is_none_or(|last| last < subnet.network().to_bits())
        })
        .take(limit)
        .collect()
}

/// Number of free subnets from which one is drawn, as in flannel's `allocateSubnet`. Drawing from
/// many makes it unlikely that hosts that start together choose the same subnet.
pub const CANDIDATES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn config(text: &str) -> NetworkConfig {
        NetworkConfig::parse(text.as_bytes()).unwrap()
    }

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_subnet_is_leased_and_then_none() {
        let config =
            config(r#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.1.0","SubnetMax":"10.0.20.0"}"#);
        let mut taken: Vec<Cidr> = config.subnets().take(19).collect();
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(pick(&config, &taken, &mut rng), Some(cidr("10.0.20.0/24")));
        taken.push(cidr("10.0.20.0/24"));
        assert_eq!(pick(&config, &taken, &mut rng), None);
    }

    #[test]
    fn subnets_of_other_lengths_are_avoided() {
        let config = config(r#"{"Network":"10.0.0.0/16"}"#);
        let taken = [cidr("10.0.0.0/17"), cidr("10.0.128.0/30"), cidr("10.0.130.255/32")];
        let free = free(&config, &taken, usize::MAX);
        assert_eq!(free.first(), Some(&cidr("10.0.129.0/24")));
        assert_eq!(free.get(1), Some(&cidr("10.0.131.0/24")));
        assert_eq!(free.len(), 126);
    }

    proptest! {
        /// For any leases and any config, the choice lies in the network, is aligned, and overlaps
        /// no lease; and if there is no choice, no subnet is free.
        #[test]
        fn never_outside_never_overlapping(
            network_len in 16u8..=28,
            extra in 2u8..=8,
            // Below loopback: what is reserved is refused as Network.
            base in 0x0100_0000u32..0x7f00_0000,
            leases in prop::collection::vec((any::<u32>(), 8u8..=32, any::<bool>()), 0..60),
            seed: u64,
        ) {
            let network = Cidr::new(Ipv4Addr::from_bits(base), network_len);
            let subnet_len = (network_len + extra).min(30);
            let config = config(&format!(r#"{{"Network":"{network}","SubnetLen":{subnet_len}}}"#));
            let taken: Vec<Cidr> = leases
                .into_iter()
                .map(|(address, len, near)| {
                    let host = u32::MAX >> network_len;
                    let address = if near {
                        network.network().to_bits() | address & host
                    } else {
                        address
                    };
                    Cidr::new(Ipv4Addr::from_bits(address), len)
                })
                .collect();
            let expected: Vec<Cidr> = config
                .subnets()
                .filter(|subnet| !taken.iter().any(|lease| lease.overlaps(*subnet)))
                .take(CANDIDATES)
                .collect();
            prop_assert_eq!(&free(&config, &taken, CANDIDATES), &expected);
            match pick(&config, &taken, &mut fastrand::Rng::with_seed(seed)) {
                Some(subnet) => {
                    prop_assert!(expected.contains(&subnet));
                    prop_assert!(network.covers(subnet) && config.may_lease(subnet));
                }
                None => prop_assert!(expected.is_empty()),
            }
        }
    }
}
