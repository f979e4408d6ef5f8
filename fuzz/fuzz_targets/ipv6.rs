//! Any bytes as IPv6: the walk over extension headers ends inside the packet, also where it is cut.
#![no_main]
use flannel_packet::ipv6::Ipv6;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ip) = Ipv6::parse_truncated(bytes) {
        assert!(bytes.starts_with(ip.as_bytes()) && ip.header_len() <= bytes.len());
        assert!(ip.ports().is_none() || ip.payload().len() >= 4);
        assert!(ip.to_string().starts_with("IP6 "));
    }
    let Ok(ip) = Ipv6::parse(bytes) else { return };
    assert!(ip.is_fragment() || (ip.fragment_offset() == 0 && !ip.more_fragments()));
    assert!(ip.header_len() >= 40 && ip.header_len() <= ip.total_len());
    assert_eq!(ip.header_len() + ip.payload().len(), ip.total_len());
    assert_eq!(ip.as_bytes().len(), 40 + ip.payload_len());
    let _ = (ip.pseudo_header(), ip.traffic_class(), ip.flow_label(), ip.hop_limit());
    assert!(ip.to_string().starts_with("IP6 "));
});
