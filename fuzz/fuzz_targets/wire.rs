//! Any datagram: one that is accepted holds one whole packet.
#![no_main]
use flannel_packet::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| match wire::parse(bytes) {
    Ok(packet) => assert!(bytes.starts_with(packet.as_bytes())),
    Err(error) => assert!(!error.to_string().is_empty()),
});
