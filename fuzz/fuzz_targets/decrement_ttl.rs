//! The time to live of any packet, decremented with its checksum.
#![no_main]
use flannel_packet::ipv4::Ipv4;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut packet = bytes.to_vec();
    let Ok(before) = Ipv4::parse(bytes) else { return };
    let left = Ipv4::parse(&mut packet[..]).unwrap().decrement_ttl();
    let after = Ipv4::parse(&packet[..]).unwrap();
    match left {
        Ok(left) => {
            assert_eq!((left, after.ttl()), (before.ttl() - 1, before.ttl() - 1));
            // 0xffff is no sum of a header that is not all zeros, so it cannot be right before.
            assert_eq!(after.verify_checksum(), before.verify_checksum());
        }
        Err(_) => assert!(before.ttl() <= 1 && packet == bytes),
    }
});
