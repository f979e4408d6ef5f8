//! Values under `subnets/`: an address that is read is one that a packet can be sent to.
#![no_main]
use flannel_udp::subnet::LeaseValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = LeaseValue::decode(bytes) else { return };
    assert!(!value.public_ip.is_unspecified() && !value.public_ip.is_multicast());
    let again = LeaseValue::decode(&LeaseValue::new(value.public_ip).encode());
    assert_eq!(again.map(|again| again.public_ip), Ok(value.public_ip));
});
