//! Any bytes as IPv4: accessors stay inside the packet, and it prints, also where it is cut.
#![no_main]
use flannel_packet::ipv4::Ipv4;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ip) = Ipv4::parse_truncated(bytes) {
        assert!(bytes.starts_with(ip.as_bytes()) && ip.as_bytes().len() <= ip.total_len());
        assert_eq!(ip.is_truncated(), ip.as_bytes().len() < ip.total_len());
        assert!(ip.ports().is_none() || ip.payload().len() >= 4);
        assert!(ip.to_string().starts_with("IP "));
    }
    let Ok(ip) = Ipv4::parse(bytes) else { return };
    assert!(ip.header_len() >= 20 && ip.header_len() <= ip.total_len());
    assert_eq!(ip.header().len() + ip.payload().len(), ip.as_bytes().len());
    assert_eq!(ip.options().len() + 20, ip.header_len());
    assert!(ip.is_fragment() == (ip.more_fragments() || ip.fragment_offset() != 0));
    let _ = (ip.verify_checksum(), ip.pseudo_header(), ip.tos(), ip.id(), ip.dont_fragment());
    assert!(ip.to_string().starts_with("IP "));
});
