//! ICMP errors about any bytes: whole, with right checksums, and never about an ICMP error.
#![no_main]
use std::net::Ipv4Addr;

use flannel_packet::icmp::{ErrorKind, MAX_LEN, error};
use flannel_packet::{icmpv4::Icmpv4, ipv4::Ipv4};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let source = Ipv4Addr::new(10, 0, 20, 0);
    let too_long = ErrorKind::FragmentationNeeded { mtu: 1_372 };
    for kind in [ErrorKind::NetUnreachable, ErrorKind::TimeExceeded, too_long] {
        let mut out = [0xa5; MAX_LEN];
        let Some(len) = error(kind, bytes, source, &mut out) else { continue };
        let offender = Ipv4::parse_truncated(bytes).unwrap();
        let reply = Ipv4::parse(&out[..len]).unwrap();
        assert!(reply.total_len() == len && reply.verify_checksum());
        assert_eq!(reply.destination(), offender.source());
        let message = Icmpv4::parse(reply.payload()).unwrap();
        assert!(message.verify_checksum() && message.is_error());
        assert!(bytes.starts_with(message.payload()));
        assert_eq!(error(kind, &out[..len], source, &mut [0; MAX_LEN]), None);
    }
});
