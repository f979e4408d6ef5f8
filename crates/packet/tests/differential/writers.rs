//! Headers that are written, read by other libraries; fields that are set, checked by sums made anew.

use etherparse::{Icmpv4Slice, Icmpv6Slice, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use flannel_packet::icmpv4::{self, Icmpv4};
use flannel_packet::icmpv6::{self, Icmpv6};
use flannel_packet::ipv4::{self, Ipv4};
use flannel_packet::ipv6::{self, Ipv6};
use flannel_packet::tcp::{self, Flags, Tcp};
use flannel_packet::udp::{self, Udp};
use flannel_packet::{EmitError, protocol};
use proptest::prelude::*;
use smoltcp::wire;

use super::inputs::captured;

prop_compose! {
    fn ipv4_header()(
        (tos, total_len, id) in (any::<u8>(), 20u16.., any::<u16>()),
        (dont_fragment, more_fragments, eighths) in (any::<bool>(), any::<bool>(), 0u16..0x2000),
        (ttl, protocol) in any::<(u8, u8)>(),
        (source, destination) in any::<([u8; 4], [u8; 4])>(),
    ) -> ipv4::Header {
        ipv4::Header {
            tos, total_len, id, dont_fragment, more_fragments, fragment_offset: eighths * 8,
            ttl, protocol, source: source.into(), destination: destination.into(),
        }
    }
}

prop_compose! {
    fn ipv6_header()(
        (traffic_class, flow_label) in (any::<u8>(), 0u32..1 << 20),
        (payload_len, hop_limit) in any::<(u16, u8)>(),
        // One that begins no extension header.
        next_header in prop_oneof![Just(protocol::TCP), Just(protocol::UDP), Just(protocol::ICMPV6)],
        (source, destination) in any::<([u8; 16], [u8; 16])>(),
    ) -> ipv6::Header {
        ipv6::Header {
            traffic_class, flow_label, payload_len, next_header, hop_limit,
            source: source.into(), destination: destination.into(),
        }
    }
}

proptest! {
    #[test]
    fn ipv4_headers_are_read_by_others(header in ipv4_header()) {
        let bytes = header.to_bytes();
        let (theirs, _) = Ipv4Header::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.header_checksum, theirs.calc_header_checksum());
        prop_assert_eq!((theirs.dscp.value() << 2) | theirs.ecn.value(), header.tos);
        prop_assert_eq!((theirs.total_len, theirs.identification), (header.total_len, header.id));
        prop_assert_eq!(theirs.dont_fragment, header.dont_fragment);
        prop_assert_eq!(theirs.more_fragments, header.more_fragments);
        prop_assert_eq!(theirs.fragment_offset.value() * 8, header.fragment_offset);
        prop_assert_eq!((theirs.time_to_live, theirs.protocol.0), (header.ttl, header.protocol));
        prop_assert_eq!(theirs.source, header.source.octets());
        prop_assert_eq!(theirs.destination, header.destination.octets());
        prop_assert!(wire::Ipv4Packet::new_unchecked(&bytes).verify_checksum());
        let view = Ipv4::parse_truncated(&bytes).unwrap();
        prop_assert!(view.verify_checksum());
        prop_assert_eq!(ipv4::Header::from(&view), header);
    }

    #[test]
    fn ipv6_headers_are_read_by_others(header in ipv6_header()) {
        let bytes = header.to_bytes();
        let (theirs, _) = Ipv6Header::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.traffic_class, header.traffic_class);
        prop_assert_eq!(theirs.flow_label.value(), header.flow_label);
        prop_assert_eq!(theirs.payload_length, header.payload_len);
        prop_assert_eq!((theirs.next_header.0, theirs.hop_limit), (header.next_header, header.hop_limit));
        prop_assert_eq!(theirs.source, header.source.octets());
        prop_assert_eq!(theirs.destination, header.destination.octets());
        let view = Ipv6::parse_truncated(&bytes).unwrap();
        prop_assert_eq!(ipv6::Header::from(&view), header);
    }

    #[test]
    fn udp_headers_are_read_by_others(
        (v4, v6) in (ipv4_header(), ipv6_header()),
        (from, to) in any::<(u16, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let len = payload.len() as u16;
        let v4 = ipv4::Header { protocol: protocol::UDP, total_len: 28 + len, ..v4 };
        let v6 = ipv6::Header { next_header: protocol::UDP, payload_len: 8 + len, ..v6 };
        let header = udp::Header::new(from, to, len);
        for (header, is_v4) in [
            (header.with_checksum(v4.pseudo_header(), &payload), true),
            (header.with_checksum(v6.pseudo_header(), &payload), false),
        ] {
            let (theirs, _) = UdpHeader::from_slice(&header.to_bytes()).unwrap();
            let expected = if is_v4 {
                let (source, destination) = (v4.source.octets(), v4.destination.octets());
                theirs.calc_checksum_ipv4_raw(source, destination, &payload).unwrap()
            } else {
                let (source, destination) = (v6.source.octets(), v6.destination.octets());
                theirs.calc_checksum_ipv6_raw(source, destination, &payload).unwrap()
            };
            prop_assert_eq!((theirs.source_port, theirs.destination_port), (from, to));
            prop_assert_eq!((theirs.length, theirs.checksum), (8 + len, expected));
            let mut datagram = vec![0xa5; 8 + payload.len()];
            header.emit(&mut datagram).unwrap().copy_from_slice(&payload);
            let view = Udp::parse(&datagram[..]).unwrap();
            let pseudo = if is_v4 { v4.pseudo_header() } else { v6.pseudo_header() };
            prop_assert!(view.verify_checksum(pseudo));
            prop_assert_eq!(udp::Header::from(&view), header);
        }
    }

    #[test]
    fn tcp_headers_are_read_by_others(
        ip in ipv4_header(),
        (source_port, destination_port, sequence, acknowledgment) in any::<(u16, u16, u32, u32)>(),
        (reserved, flags, window, urgent_pointer) in (0u8..16, any::<u8>(), any::<u16>(), any::<u16>()),
        options in proptest::collection::vec(any::<u8>(), 0..=40),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let flags = Flags(flags);
        let header = tcp::Header {
            source_port, destination_port, sequence, acknowledgment, reserved, flags, window,
            checksum: 0, urgent_pointer, options: &options,
        };
        let total_len = (20 + header.header_len() + payload.len()) as u16;
        let ip = ipv4::Header { protocol: protocol::TCP, total_len, ..ip };
        let header = header.with_checksum(ip.pseudo_header(), &payload);
        let mut segment = vec![0xa5; header.header_len() + payload.len()];
        header.emit(&mut segment).unwrap().copy_from_slice(&payload);
        let (theirs, rest) = TcpHeader::from_slice(&segment).unwrap();
        prop_assert_eq!(rest, &payload);
        let (source, destination) = (ip.source.octets(), ip.destination.octets());
        let expected = wire::TcpPacket::new_unchecked(&segment)
            .verify_checksum(&ip.source.into(), &ip.destination.into());
        prop_assert!(expected);
        if reserved == 0 {
            // The other library drops these bits, and so sums them up as zero.
            let sum = theirs.calc_checksum_ipv4_raw(source, destination, &payload).unwrap();
            prop_assert_eq!(theirs.checksum, sum);
        }
        prop_assert_eq!((theirs.source_port, theirs.destination_port), (source_port, destination_port));
        prop_assert_eq!((theirs.sequence_number, theirs.acknowledgment_number), (sequence, acknowledgment));
        prop_assert_eq!((theirs.window_size, theirs.urgent_pointer), (window, urgent_pointer));
        prop_assert_eq!((theirs.syn, theirs.ack), (flags.contains(Flags::SYN), flags.contains(Flags::ACK)));
        prop_assert_eq!(&theirs.options.as_slice()[..options.len()], &options[..]);
        let view = Tcp::parse(&segment[..]).unwrap();
        let again = tcp::Header::from(&view);
        let padded = again.options;
        prop_assert!(padded.starts_with(&options) && padded[options.len()..].iter().all(|&pad| pad == 0));
        prop_assert_eq!(tcp::Header { options: &options, ..again }, header);
    }

    #[test]
    fn echo_messages_are_read_by_others(
        (ip, id, sequence) in (ipv6_header(), any::<u16>(), any::<u16>()),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let header = icmpv4::Header::echo_request(id, sequence).with_checksum(&payload);
        let message = [&header.to_bytes()[..], &payload].concat();
        let theirs = Icmpv4Slice::from_slice(&message).unwrap();
        let echo = etherparse::IcmpEchoHeader { id, seq: sequence };
        prop_assert_eq!(theirs.icmp_type(), etherparse::Icmpv4Type::EchoRequest(echo));
        prop_assert!(Icmpv4::parse(&message[..]).unwrap().verify_checksum());
        prop_assert!(wire::Icmpv4Packet::new_unchecked(&message).verify_checksum());

        let payload_len = message.len() as u16;
        let ip = ipv6::Header { next_header: protocol::ICMPV6, payload_len, ..ip };
        let header = icmpv6::Header::echo_reply(id, sequence).with_checksum(ip.pseudo_header(), &payload);
        let message = [&header.to_bytes()[..], &payload].concat();
        let theirs = Icmpv6Slice::from_slice(&message).unwrap();
        prop_assert_eq!(theirs.icmp_type(), etherparse::Icmpv6Type::EchoReply(echo));
        prop_assert!(theirs.is_checksum_valid(ip.source.octets(), ip.destination.octets()));
        let view = Icmpv6::parse(&message[..]).unwrap();
        prop_assert_eq!((view.echo(), icmpv6::Header::from(&view)), (Some((id, sequence)), header));
    }

    /// As a network address translator does it: every field changes, and no payload is summed up.
    #[test]
    fn fields_that_are_set_keep_checksums_right(
        index in 0..captured().len(),
        (tos, id, ttl, dont_fragment) in any::<(u8, u16, u8, bool)>(),
        (source, destination, from, to) in any::<([u8; 4], [u8; 4], u16, u16)>(),
        (sequence, acknowledgment, flags, window) in any::<(u32, u32, u8, u16)>(),
    ) {
        let mut bytes = captured()[index].clone();
        let Ok(mut ip) = Ipv4::parse(&mut bytes[..]) else { return Ok(()) };
        prop_assert!(ip.verify_checksum());
        let before = ip.pseudo_header();
        ip.set_tos(tos);
        ip.set_id(id);
        ip.set_ttl(ttl);
        ip.set_dont_fragment(dont_fragment);
        ip.set_source(source.into());
        ip.set_destination(destination.into());
        prop_assert!(ip.verify_checksum());
        prop_assert_eq!((ip.tos(), ip.id(), ip.ttl()), (tos, id, ttl));
        prop_assert_eq!(ip.dont_fragment(), dont_fragment);
        prop_assert_eq!((ip.source(), ip.destination()), (source.into(), destination.into()));
        let (incremental, after) = (ip.checksum(), ip.pseudo_header());
        ip.fill_checksum();
        prop_assert_eq!(ip.checksum(), incremental);
        if ip.is_fragment() {
            return Ok(());
        }
        match ip.protocol() {
            protocol::UDP => {
                let mut udp = Udp::parse(ip.payload_mut()).unwrap();
                let has_checksum = udp.checksum() != 0;
                if has_checksum {
                    // The capture was made where the kernel had not completed it yet.
                    udp.fill_checksum(before);
                }
                udp.adjust_checksum(before, after);
                udp.set_source_port(from);
                udp.set_destination_port(to);
                prop_assert_eq!((udp.source_port(), udp.destination_port()), (from, to));
                prop_assert_eq!(udp.checksum() != 0, has_checksum);
                prop_assert!(udp.verify_checksum(after));
                udp.payload_mut().fill(7);
                udp.fill_checksum(after);
                prop_assert!(udp.checksum() != 0 && udp.verify_checksum(after));
            }
            protocol::TCP => {
                let mut tcp = Tcp::parse(ip.payload_mut()).unwrap();
                tcp.fill_checksum(before);
                tcp.adjust_checksum(before, after);
                tcp.set_source_port(from);
                tcp.set_destination_port(to);
                tcp.set_sequence(sequence);
                tcp.set_acknowledgment(acknowledgment);
                tcp.set_flags(Flags(flags));
                tcp.set_window(window);
                prop_assert!(tcp.verify_checksum(after));
                prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (from, to));
                prop_assert_eq!((tcp.sequence(), tcp.acknowledgment()), (sequence, acknowledgment));
                prop_assert_eq!((tcp.flags(), tcp.window()), (Flags(flags), window));
                tcp.payload_mut().fill(7);
                tcp.fill_checksum(after);
                prop_assert!(tcp.verify_checksum(after));
            }
            protocol::ICMP => {
                let mut icmp = Icmpv4::parse(ip.payload_mut()).unwrap();
                icmp.payload_mut().fill(7);
                icmp.fill_checksum();
                prop_assert!(icmp.verify_checksum());
            }
            _ => {}
        }
    }
}

#[test]
fn hops_are_taken_off_in_place() {
    for mut bytes in captured() {
        if let Ok(mut ip) = Ipv4::parse(&mut bytes[..]) {
            let ttl = ip.ttl();
            assert_eq!(ip.decrement_ttl(), Ok(ttl - 1));
            assert!(ip.ttl() == ttl - 1 && ip.verify_checksum());
            ip.set_ttl(1);
            assert!(ip.decrement_ttl().is_err());
        } else {
            let mut ip = Ipv6::parse(&mut bytes[..]).unwrap();
            let (limit, before) = (ip.hop_limit(), ip.pseudo_header());
            assert_eq!(ip.decrement_hop_limit(), Ok(limit - 1));
            ip.set_hop_limit(1);
            assert!(ip.decrement_hop_limit().is_err());
            ip.set_traffic_class(0xb9);
            ip.set_flow_label(0xf_1234);
            assert_eq!((ip.traffic_class(), ip.flow_label()), (0xb9, 0xf_1234));
            ip.set_source(1.into());
            ip.set_destination(2.into());
            let after = ip.pseudo_header();
            if ip.protocol() == protocol::UDP && !ip.is_fragment() {
                let mut udp = Udp::parse(ip.payload_mut()).unwrap();
                udp.fill_checksum(before);
                udp.adjust_checksum(before, after);
                assert!(udp.verify_checksum(after));
            }
        }
    }
}

#[test]
fn a_header_needs_its_room() {
    let (source, destination) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let ip = ipv4::Header::new(protocol::UDP, source, destination, u16::MAX);
    assert_eq!(ip.total_len, u16::MAX, "a payload that is too long");
    let mut out = [0xa5; 20];
    assert_eq!(ip.emit(&mut out[..19]), Err(EmitError::BufferTooShort));
    assert_eq!(out, [0xa5; 20]);
    assert_eq!(ip.emit(&mut out).unwrap().len(), 0);
    let mut tcp = tcp::Header { options: &[1; 40], ..tcp::Header::default() };
    assert_eq!(tcp.emit(&mut [0; 59]), Err(EmitError::BufferTooShort));
    assert_eq!(tcp.emit(&mut [0; 64]).unwrap().len(), 4);
    tcp.options = &[1; 41];
    assert_eq!(tcp.emit(&mut [0; 64]), Err(EmitError::OptionsTooLong));
    assert_eq!(tcp.with_checksum(ip.pseudo_header(), b"x").checksum, 0);
}

/// A packet cut to any length reads as the start of the whole one.
#[test]
fn the_start_of_a_packet_is_read_as_such() {
    for packet in captured() {
        for len in 0..packet.len() {
            let cut = &packet[..len];
            if let Ok(whole) = Ipv4::parse(&packet[..]) {
                assert!(Ipv4::parse(cut).is_err());
                let Ok(ip) = Ipv4::parse_truncated(cut) else {
                    assert!(len < 20);
                    continue;
                };
                assert!(ip.is_truncated() && !whole.is_truncated());
                assert_eq!(
                    (ip.total_len(), ip.payload_len()),
                    (whole.total_len(), whole.payload_len())
                );
                assert_eq!((ip.as_bytes(), ip.header_len()), (cut, whole.header_len()));
                assert!(whole.payload().starts_with(ip.payload()));
                assert!(ip.ports().is_none_or(|ports| whole.ports() == Some(ports)));
                let start = format!("IP {}", ip.source());
                assert!(
                    ip.to_string().starts_with(&start) && !ip.to_string().contains('('),
                    "{ip}"
                );
            } else {
                let whole = Ipv6::parse(&packet[..]).unwrap();
                assert!(Ipv6::parse(cut).is_err());
                let Ok(ip) = Ipv6::parse_truncated(cut) else {
                    assert!(len < 40);
                    continue;
                };
                assert!(ip.is_truncated() && !whole.is_truncated());
                assert_eq!((ip.total_len(), ip.as_bytes()), (whole.total_len(), cut));
                assert!(ip.header_len() <= whole.header_len());
                let start = format!("IP6 {}", ip.source());
                assert!(ip.to_string().starts_with(&start), "{ip}");
            }
        }
    }
}
