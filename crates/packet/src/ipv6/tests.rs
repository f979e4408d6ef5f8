use super::super::samples;
use super::*;

const UDP: [u8; 10] = [0x0f, 0xa0, 0, 53, 0, 10, 0, 0, b'h', b'i'];

#[test]
fn reads_every_field() {
    let mut packet = samples::ipv6(protocol::UDP, &UDP);
    packet.push(0xee);
    let ip = Ipv6::parse(&packet[..]).unwrap();
    assert_eq!((ip.traffic_class(), ip.flow_label()), (0x01, 0x23456));
    assert_eq!((ip.payload_len(), ip.total_len(), ip.header_len()), (10, 50, 40));
    assert_eq!((ip.next_header(), ip.protocol(), ip.hop_limit()), (17, 17, 64));
    assert_eq!(ip.source().to_string(), "fd00::1");
    assert_eq!(ip.destination().to_string(), "fd00::2");
    assert_eq!((ip.payload(), ip.as_bytes()), (&UDP[..], &packet[..50]));
    assert!(!ip.is_fragment());
    assert_eq!(ip.to_string(), "IP6 fd00::1.4000 > fd00::2.53: UDP, length 2");
    let pseudo = [&packet[8..40], &[0, 0, 0, 10, 0, 0, 0, 17][..]].concat();
    assert_eq!(checksum::finish(ip.pseudo_header()), samples::reference_checksum(&pseudo));
}

#[test]
fn walks_every_extension() {
    let mut chain = Vec::new();
    chain.extend([protocol::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0]); // hop by hop
    chain.extend([protocol::ROUTING, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend([protocol::AUTHENTICATION, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend([protocol::FRAGMENT, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend([protocol::UDP, 0, 0, 0, 0, 0, 0, 9]);
    let headers = chain.len();
    chain.extend(UDP);
    let packet = samples::ipv6(protocol::HOP_BY_HOP, &chain);
    let ip = Ipv6::parse(&packet[..]).unwrap();
    assert_eq!((ip.protocol(), ip.header_len()), (protocol::UDP, 40 + headers));
    // The fragment header is atomic: a fragment that is all of the packet.
    assert_eq!((ip.payload(), ip.is_fragment()), (&UDP[..], true));
    assert_eq!((ip.more_fragments(), ip.fragment_offset()), (false, 0));
    // Cut anywhere in the headers, it is refused.
    for len in 0..headers {
        let mut cut = packet[..40 + len].to_vec();
        cut[5] = len as u8;
        assert_eq!(Ipv6::parse(cut).err(), Some(Malformed::BadExtension), "{len}");
    }
}

#[test]
fn a_later_fragment_has_no_headers() {
    let later = samples::ipv6(
        protocol::FRAGMENT,
        &[protocol::HOP_BY_HOP, 0, 0, 0x11, 0, 0, 0, 9, 0xff, 0xff],
    );
    let ip = Ipv6::parse(later).unwrap();
    assert!(ip.is_fragment() && ip.more_fragments());
    assert_eq!((ip.fragment_offset(), ip.payload()), (16, &[0xff, 0xff][..]));
    assert_eq!(ip.to_string(), "IP6 fd00::1 > fd00::2: frag (16|2)");
}

#[test]
fn any_fragment_header_makes_a_fragment() {
    let header = |next: u8, field: u8| [next, 0, 0, field, 0, 0, 0, 9];
    for (first, second, more, offset) in
        [(1, 0, true, 0), (0, 1, true, 0), (0, 0, false, 0), (1, 8, true, 8), (8, 0, false, 8)]
    {
        let headers =
            [&header(protocol::FRAGMENT, first)[..], &header(protocol::UDP, second), &UDP].concat();
        let packet = samples::ipv6(protocol::FRAGMENT, &headers);
        let ip = Ipv6::parse(&packet[..]).unwrap();
        assert!(ip.is_fragment(), "{first} {second}");
        assert_eq!((ip.more_fragments(), ip.fragment_offset()), (more, offset));
    }
}

#[test]
fn refuses_what_is_no_packet() {
    let good = samples::ipv6(protocol::UDP, &UDP);
    assert_eq!(Ipv6::parse(&good[..39]).err(), Some(Malformed::TooShort));
    assert_eq!(Ipv6::parse(&good[..49]).err(), Some(Malformed::BadTotalLength));
    let mut bad = good.clone();
    bad[0] = 0x45;
    assert_eq!(Ipv6::parse(bad).err(), Some(Malformed::BadVersion));
    // The longest chain that the length field can say ends in the packet or is refused.
    let mut headers = vec![0; 65_535];
    headers[1] = 255;
    headers.truncate(65_528);
    for at in (0..65_528).step_by(2_048) {
        headers[at] = protocol::DESTINATION_OPTIONS;
        headers[at + 1] = 255;
    }
    let chain = samples::ipv6(protocol::DESTINATION_OPTIONS, &headers);
    assert_eq!(Ipv6::parse(chain).err(), Some(Malformed::BadExtension));
}

#[test]
fn prints_the_rest() {
    let print =
        |next, payload: &[u8]| Ipv6::parse(samples::ipv6(next, payload)).unwrap().to_string();
    assert_eq!(print(59, &[]), "IP6 fd00::1 > fd00::2: no next header");
    assert_eq!(print(132, &[1, 2]), "IP6 fd00::1 > fd00::2: ip-proto-132 2");
    assert_eq!(print(17, &[1]), "IP6 fd00::1 > fd00::2: [|udp] (shorter than the header)");
    assert_eq!(print(6, &[1]), "IP6 fd00::1 > fd00::2: [|tcp] (shorter than the header)");
    assert_eq!(print(58, &[1]), "IP6 fd00::1 > fd00::2: [|icmp6] (shorter than the header)");
    assert_eq!(
        print(58, &[128, 0, 0, 0, 0, 7, 0, 9]),
        "IP6 fd00::1 > fd00::2: ICMP6, echo request, id 7, seq 9, length 8"
    );
    let tcp = samples::hex("0001 0050 00000007 00000008 5010 0100 0000 0000");
    assert_eq!(print(6, &tcp), "IP6 fd00::1.1 > fd00::2.80: Flags [.], ack 8, win 256, length 0");
}
