//! Which subnet a new host gets.

use crate::route::Cidr;
use crate::subnet::NetworkConfig;

/// A free subnet of `config`, drawn evenly from the first [`CANDIDATES`] that overlap nothing in
/// `taken`; `None` if there is none. flannel's rule, so that both draw from the same pool.
pub fn pick(config: &NetworkConfig, taken: &[Cidr], rng: &mut fastrand::Rng) -> Option<Cidr> {
    let free = free(config, taken, CANDIDATES);
    rng.choice(free)
}

/// The first `limit` subnets of `config` that overlap nothing in `taken`.
pub fn free(config: &NetworkConfig, taken: &[Cidr], limit: usize) -> Vec<Cidr> {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    let mut taken = taken.into_iter().peekable();
    // Prefixes nest or are disjoint, so of all that begin at or before a subnet's last address
    // only the one that reaches furthest can still overlap it.
    let mut reach: Option<u32> = None;
    config
        .subnets()
        .filter(|subnet| {
            while let Some(next) = taken.next_if(|next| next.network() <= subnet.last()) {
                reach = reach.max(Some(next.last().to_bits()));
            }
            reach.is_none_or(|reach| reach < subnet.network().to_bits())
        })
        .take(limit)
        .collect()
}

/// From how many free subnets one is drawn (flannel: `allocateSubnet`). Drawing from many makes
/// it unlikely that hosts that start together want the same one.
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
    fn the_last_subnet_is_given_out_and_then_none() {
        let config =
            config(r#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.1.0","SubnetMax":"10.0.20.0"}"#);
        let mut taken: Vec<Cidr> = config.subnets().take(19).collect();
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(pick(&config, &taken, &mut rng), Some(cidr("10.0.20.0/24")));
        taken.push(cidr("10.0.20.0/24"));
        assert_eq!(pick(&config, &taken, &mut rng), None);
    }

    #[test]
    fn foreign_lengths_are_kept_clear_of() {
        let config = config(r#"{"Network":"10.0.0.0/16"}"#);
        let taken = [cidr("10.0.0.0/17"), cidr("10.0.128.0/30"), cidr("10.0.130.255/32")];
        let free = free(&config, &taken, usize::MAX);
        assert_eq!(free.first(), Some(&cidr("10.0.129.0/24")));
        assert_eq!(free.get(1), Some(&cidr("10.0.131.0/24")));
        assert_eq!(free.len(), 126);
    }

    proptest! {
        /// Any set of leases, any config: inside, aligned, overlapping nothing; and if none is
        /// found there is none.
        #[test]
        fn never_outside_never_overlapping(
            network_len in 16u8..=28,
            extra in 2u8..=8,
            base: u32,
            leases in prop::collection::vec((any::<u32>(), 8u8..=32, any::<bool>()), 0..60),
            seed: u64,
        ) {
            let network = Cidr::new(Ipv4Addr::from_bits(base), network_len);
            prop_assume!(!network.network().is_unspecified());
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
