//! Fields set in any packet, and headers made from the fields of any header.
#![no_main]
use flannel_packet::{icmpv4, icmpv6, ipv4, ipv6, tcp, udp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, u16, u8, &[u8])| {
    let (address, word, byte, bytes) = input;
    let mut packet = bytes.to_vec();
    if let Ok(mut ip) = ipv4::Ipv4::parse_truncated(&mut packet[..]) {
        // A header checksum of 0xffff is another zero, which an update need not keep.
        let was_right = ip.verify_checksum() && ip.checksum() != 0xffff;
        ip.set_tos(byte);
        ip.set_id(word);
        ip.set_ttl(byte);
        ip.set_dont_fragment(word & 1 != 0);
        ip.set_source(address.into());
        ip.set_destination((!address).into());
        assert!(!was_right || ip.verify_checksum());
        assert_eq!((ip.tos(), ip.id(), ip.ttl()), (byte, word, byte));
        assert_eq!((ip.source().to_bits(), ip.destination().to_bits()), (address, !address));
        ip.payload_mut().fill(byte);
        ip.fill_checksum();
        let header = ipv4::Header::from(&ip);
        let again = header.to_bytes();
        let view = ipv4::Ipv4::parse_truncated(&again).unwrap();
        assert!(view.verify_checksum() && ipv4::Header::from(&view) == header);
    }
    if let Ok(mut ip) = ipv6::Ipv6::parse_truncated(&mut packet[..]) {
        ip.set_traffic_class(byte);
        ip.set_flow_label(address);
        ip.set_hop_limit(byte);
        assert_eq!((ip.traffic_class(), ip.flow_label()), (byte, address & 0xf_ffff));
        let left = ip.decrement_hop_limit();
        assert_eq!(left.is_err(), byte <= 1);
        assert_eq!(ipv6::Header::from(&ip).to_bytes()[..], ip.as_bytes()[..40]);
        ip.payload_mut().fill(byte);
    }
    if let Ok(view) = tcp::Tcp::parse(bytes) {
        let mut out = [0; 60];
        let rest = tcp::Header::from(&view).emit(&mut out).unwrap().len();
        assert_eq!(out[..60 - rest], bytes[..view.header_len()]);
    }
    if let Ok(view) = udp::Udp::parse_truncated(bytes) {
        assert_eq!(udp::Header::from(&view).to_bytes()[..], bytes[..8]);
    }
    if let (Ok(v4), Ok(v6)) = (icmpv4::Icmpv4::parse(bytes), icmpv6::Icmpv6::parse(bytes)) {
        assert_eq!(icmpv4::Header::from(&v4).to_bytes()[..], bytes[..8]);
        assert_eq!(icmpv6::Header::from(&v6).to_bytes()[..], bytes[..8]);
    }
});
