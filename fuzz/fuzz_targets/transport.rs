//! Any bytes as TCP, UDP and ICMP.
#![no_main]
use flannel_packet::checksum::Sum;
use flannel_packet::{icmpv4::Icmpv4, icmpv6::Icmpv6, tcp::Tcp, udp::Udp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tcp) = Tcp::parse(bytes) {
        assert_eq!(tcp.header_len() + tcp.payload().len(), bytes.len());
        // Every option is at least a byte, so the iteration ends.
        assert!(tcp.options().count() <= tcp.option_bytes().len());
        let _ = (tcp.verify_checksum(Sum::ZERO), tcp.to_string());
    }
    if let Ok(udp) = Udp::parse(bytes) {
        assert_eq!(udp.payload().len() + 8, udp.total_len());
        let _ = (udp.verify_checksum(Sum::ZERO), udp.to_string());
    }
    if let Ok(icmp) = Icmpv4::parse(bytes) {
        let _ = (icmp.echo(), icmp.is_error(), icmp.verify_checksum(), icmp.to_string());
    }
    if let Ok(icmp) = Icmpv6::parse(bytes) {
        let _ = (icmp.echo(), icmp.is_error(), icmp.verify_checksum(Sum::ZERO), icmp.to_string());
    }
});
