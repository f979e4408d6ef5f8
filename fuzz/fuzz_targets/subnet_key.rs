//! Names of keys under `subnets/`: what is read prints as a name that is read the same.
#![no_main]
use flannel_udp::subnet::LeaseKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    match name.parse::<LeaseKey>() {
        Ok(key) => assert_eq!(key.to_string().parse(), Ok(key)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
