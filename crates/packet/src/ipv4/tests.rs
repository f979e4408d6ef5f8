use super::super::bytes::put_u16;
use super::super::{Expired, samples};
use super::*;

#[test]
fn reads_every_field() {
    let mut packet = samples::udp(b"hello");
    packet[1] = 0xb9;
    packet[4..6].copy_from_slice(&[0xca, 0xfe]);
    packet.extend([0xee; 3]);
    samples::fix_ip_checksum(&mut packet);
    let ip = Ipv4::parse(&packet[..]).unwrap();
    assert_eq!((ip.header_len(), ip.total_len(), ip.tos(), ip.id()), (20, 33, 0xb9, 0xcafe));
    assert_eq!((ip.dont_fragment(), ip.more_fragments(), ip.is_fragment()), (true, false, false));
    assert_eq!((ip.ttl(), ip.protocol(), ip.fragment_offset()), (64, protocol::UDP, 0));
    assert_eq!((ip.source(), ip.destination()), (samples::CLIENT, samples::SERVER));
    assert_eq!((ip.as_bytes(), ip.payload()), (&packet[..33], &packet[20..33]));
    assert_eq!(ip.checksum(), u16::from_be_bytes([packet[10], packet[11]]));
    assert!(ip.verify_checksum() && ip.options().is_empty());
    assert_eq!(ip.header(), &packet[..20]);
    assert_eq!(ip.into_inner().len(), 36);
}

#[test]
fn options_belong_to_the_header() {
    let mut packet = samples::hex("46000018 00000000 40010000 0a000001 0a000002 94040000");
    samples::fix_ip_checksum(&mut packet);
    let ip = Ipv4::parse(packet).unwrap();
    assert_eq!((ip.header_len(), ip.options()), (24, &[0x94, 4, 0, 0][..]));
    assert!(ip.verify_checksum() && ip.payload().is_empty());
}

#[test]
fn refuses_what_is_no_packet() {
    let good = samples::udp(b"hello");
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        Ipv4::parse(bad).err()
    };
    assert_eq!(Ipv4::parse(&good[..19]).err(), Some(Malformed::TooShort));
    assert_eq!(with(0, 0x55), Some(Malformed::BadVersion));
    assert_eq!(with(0, 0x44), Some(Malformed::BadHeaderLength));
    assert_eq!(with(0, 0x49), Some(Malformed::BadHeaderLength));
    assert_eq!(with(3, 19), Some(Malformed::BadTotalLength));
    assert_eq!(with(3, 34), Some(Malformed::BadTotalLength));
    assert_eq!(Ipv4::parse(&good[..32]).err(), Some(Malformed::BadTotalLength));
    for error in [
        Malformed::TooShort,
        Malformed::BadVersion,
        Malformed::BadHeaderLength,
        Malformed::BadTotalLength,
        Malformed::BadExtension,
    ] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn prints_as_tcpdump_would() {
    let print = |packet: Vec<u8>| Ipv4::parse(packet).unwrap().to_string();
    assert_eq!(print(samples::udp(b"hello")), "IP 10.5.20.2.4000 > 10.5.31.3.53: UDP, length 5");
    assert_eq!(
        print(samples::tcp(5, b"abc", 0x18)),
        "IP 10.5.20.2.4000 > 10.5.31.3.80: Flags [P.], seq 5:8, ack 99, win 502, length 3"
    );
    assert_eq!(
        print(samples::icmp(8, 0)),
        "IP 10.5.20.2 > 10.5.31.3: ICMP echo request, id 1, seq 2, length 16"
    );
    let other = samples::ipv4(47, 1, vec![1, 2, 3], None);
    assert_eq!(print(other), "IP 10.5.20.2 > 10.5.31.3: ip-proto-47 3");

    let mut fragment = samples::udp(b"hello");
    fragment[7] = 2;
    assert_eq!(print(fragment.clone()), "IP 10.5.20.2 > 10.5.31.3: ip-proto-17");
    let ip = Ipv4::parse(fragment).unwrap();
    assert!(ip.is_fragment() && ip.fragment_offset() == 16);
    let mut first = samples::udp(b"hello");
    (first[6], first[24], first[25]) = (0x20, 0x03, 0xe8);
    assert_eq!(print(first), "IP 10.5.20.2.4000 > 10.5.31.3.53: UDP, length 992");
}

#[test]
fn prints_what_is_cut_short() {
    let cut = |mut packet: Vec<u8>| {
        packet.truncate(25);
        packet[3] = 25;
        Ipv4::parse(packet).unwrap().to_string()
    };
    let ends = "(shorter than the header)";
    assert_eq!(cut(samples::udp(b"")), format!("IP 10.5.20.2 > 10.5.31.3: [|udp] {ends}"));
    assert_eq!(cut(samples::tcp(0, b"", 2)), format!("IP 10.5.20.2 > 10.5.31.3: [|tcp] {ends}"));
    assert_eq!(cut(samples::icmp(8, 0)), format!("IP 10.5.20.2 > 10.5.31.3: [|icmp] {ends}"));
}

/// Every time to live beside every value of the rest of the header's sum.
#[test]
#[cfg_attr(miri, ignore = "2^24 cases")]
fn decrementing_the_ttl_keeps_the_checksum_of_any_header() {
    let mut packet = *b"\x45\0\0\x14\0\0\x40\0\0\x11\0\0\x0a\0\0\x01\x0a\0\0\x02";
    let rest = !samples::reference_checksum(&packet);
    let whole = |ttl: u8, id: u16| {
        let sum = u32::from(rest) + u32::from(id) + (u32::from(ttl) << 8);
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    };
    for ttl in 0..=255u8 {
        for id in 0..=0xffffu16 {
            packet[8] = ttl;
            put_u16(&mut packet, 4, id);
            put_u16(&mut packet, field::CHECKSUM, whole(ttl, id));
            let left = Ipv4::parse(&mut packet[..]).unwrap().decrement_ttl();
            if ttl <= 1 {
                assert_eq!((left, packet[8]), (Err(Expired), ttl));
            } else {
                assert_eq!((left, packet[8]), (Ok(ttl - 1), ttl - 1));
                assert_eq!(u16_at(&packet, field::CHECKSUM), whole(ttl - 1, id), "{ttl} {id}");
            }
        }
    }
    put_u16(&mut packet, field::CHECKSUM, 0);
    assert_eq!(whole(254, 0xffff), samples::reference_checksum(&packet));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let mut packet = samples::udp(b"x");
    packet[10] ^= 0x40;
    assert_eq!(Ipv4::parse(&mut packet[..]).unwrap().decrement_ttl(), Ok(63));
    assert!(!Ipv4::parse(&packet[..]).unwrap().verify_checksum());
}
