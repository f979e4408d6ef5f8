//! The network config: an accepted one leases only subnets of its network.
#![no_main]
use flannel_udp::subnet::NetworkConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match NetworkConfig::parse(bytes) {
        Ok(config) => {
            for subnet in config.subnets().take(64) {
                assert!(config.may_lease(subnet));
                assert!(config.network.contains(subnet.network()));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
