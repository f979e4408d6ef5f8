use super::super::samples;
use super::*;

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 20, 0);

/// The message that flannel v0.21 was seen to send for this offender.
#[test]
fn net_unreachable_is_flannels_byte_for_byte() {
    let offender = samples::hex("4500002cb4f54000401154c30a0014000a000909df57270f0018593500");
    let mut offender = [&offender[..], &[0; 16]].concat();
    offender.truncate(44);
    let expected = samples::hex(
        "4500003800000000080176c60a0014000a001400\
         03009d4b000000004500002cb4f54000401154c30a0014000a000909df57270f00185935",
    );
    let mut out = [0xa5; MAX_LEN];
    let len = error(ErrorKind::NetUnreachable, &offender, ROUTER, &mut out).unwrap();
    assert_eq!(out[..len], expected[..]);
}

#[test]
fn time_exceeded_reaches_the_sender() {
    let offender = samples::tcp(1, b"payload", 0x18);
    let mut out = [0xa5; MAX_LEN];
    let len = error(ErrorKind::TimeExceeded, &offender, ROUTER, &mut out).unwrap();
    let reply = Ipv4::parse(&out[..len]).unwrap();
    assert!(reply.verify_checksum());
    assert_eq!((reply.ttl(), reply.source(), reply.destination()), (64, ROUTER, samples::CLIENT));
    let message = Icmpv4::parse(reply.payload()).unwrap();
    assert!(message.verify_checksum());
    assert_eq!((message.kind(), message.code()), (kind::TIME_EXCEEDED, 0));
    assert_eq!(message.payload(), &offender[..28]);
    assert_eq!(
        reply.to_string(),
        "IP 10.0.20.0 > 10.5.20.2: ICMP time exceeded in-transit, length 36"
    );
}

/// The second half of the second word is the MTU (RFC 1191 §4).
#[test]
fn fragmentation_needed_tells_the_mtu() {
    let offender = samples::tcp(1, &[7; 1_400], 0x18);
    let mut out = [0xa5; MAX_LEN];
    let kind = ErrorKind::FragmentationNeeded { mtu: 1_372 };
    let len = error(kind, &offender, ROUTER, &mut out).unwrap();
    let reply = Ipv4::parse(&out[..len]).unwrap();
    let message = Icmpv4::parse(reply.payload()).unwrap();
    assert!(reply.verify_checksum() && message.verify_checksum());
    assert_eq!(reply.payload()[..2], [3, 4]);
    assert_eq!(reply.payload()[4..8], [0, 0, 0x05, 0x5c]);
    // The payload beyond what is quoted need not be there.
    let mut cut = [0xa5; MAX_LEN];
    assert_eq!(error(kind, &offender[..28], ROUTER, &mut cut), Some(len));
    assert_eq!(cut, out);
    assert_eq!(error(kind, &offender[..27], ROUTER, &mut cut), None);
}

#[test]
fn quotes_what_there_is() {
    let mut offender = samples::udp(b"");
    offender.truncate(24);
    offender[3] = 24;
    samples::fix_ip_checksum(&mut offender);
    let mut out = [0; MAX_LEN];
    let len = error(ErrorKind::NetUnreachable, &offender, ROUTER, &mut out);
    assert_eq!(len, Some(20 + 8 + 24));
    assert_eq!(error(ErrorKind::NetUnreachable, &offender, ROUTER, &mut out[..51]), None);
}

#[test]
fn keeps_silent_where_rfc_1812_says_so() {
    let told = |change: &dyn Fn(&mut [u8])| {
        let mut offender = samples::icmp(8, 0);
        change(&mut offender);
        samples::fix_ip_checksum(&mut offender);
        error(ErrorKind::TimeExceeded, &offender, ROUTER, &mut [0; MAX_LEN]).is_some()
    };
    assert!(told(&|_| {}));
    for icmp_error in [3, 4, 5, 11, 12, 1, 99] {
        assert!(!told(&|p| p[20] = icmp_error), "{icmp_error}");
    }
    for query in [0, 13, 14, 17] {
        assert!(told(&|p| p[20] = query), "{query}");
    }
    assert!(!told(&|p| p[7] = 1), "second fragment");
    assert!(told(&|p| p[6] = 0x20), "first fragment");
    for source in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1]] {
        assert!(!told(&|p| p[12..16].copy_from_slice(&source)), "from {source:?}");
    }
    assert!(!told(&|p| p[12..16].fill(255)));
    for destination in [[224, 0, 0, 9], [239, 1, 1, 1], [255, 255, 255, 255]] {
        assert!(!told(&|p| p[16..20].copy_from_slice(&destination)), "to {destination:?}");
    }
    let mut broken = samples::icmp(8, 0);
    broken[11] ^= 1;
    assert_eq!(error(ErrorKind::TimeExceeded, &broken, ROUTER, &mut [0; MAX_LEN]), None);
    assert_eq!(error(ErrorKind::TimeExceeded, &[], ROUTER, &mut [0; MAX_LEN]), None);
}
