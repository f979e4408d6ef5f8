//! Any datagram: one that is accepted holds one whole packet that fits the MTU.
#![no_main]
use flannel_packet::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (mtu, bytes) = (usize::from(input.0), input.1);
    match wire::parse(bytes, mtu) {
        Ok(packet) => assert!(packet.total_len() <= mtu && bytes.starts_with(packet.as_bytes())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
