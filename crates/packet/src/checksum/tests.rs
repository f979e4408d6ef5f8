use proptest::prelude::*;

use super::super::samples::reference_checksum;
use super::*;

#[test]
fn folds_the_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(fold(sum(&bytes, Sum::ZERO)), 0xddf2);
    assert_eq!(finish(sum(&bytes, Sum::ZERO)), !0xddf2);
}

#[test]
fn carries_are_not_lost() {
    for len in 0..300 {
        let bytes = vec![0xff; len];
        assert_eq!(finish(sum(&bytes, Sum::ZERO)), reference_checksum(&bytes), "{len}");
    }
    let full = Sum(u64::MAX);
    assert_eq!(fold(full), 0xffff);
    assert_eq!(fold(full.add_u32(u32::MAX).join(full)), 0xffff);
    let bytes = vec![0xff; 65_535];
    assert_eq!(finish(sum(&bytes, full)), reference_checksum(&bytes));
}

/// Every way of adding up, whichever of them [`sum`] takes on this processor.
fn every_way(bytes: &[u8]) -> [u16; 3] {
    [sum, chains, vectors].map(|way| finish(way(bytes, Sum::ZERO)))
}

#[test]
fn every_way_is_the_plain_sum_around_every_boundary() {
    for boundary in [0, 8, BLOCK, CHAIN, 2 * CHAIN, VECTORS, 65_535] {
        for len in boundary.saturating_sub(9)..boundary + 9 {
            let growing = |at: usize| (at.wrapping_mul(at) / 7) as u8;
            for byte in [|_| 0, |_| 0xff, |at| [0xff, 0][at % 2], |at| [0, 1][at % 2], growing] {
                let bytes: Vec<u8> = (0..len).map(byte).collect();
                assert_eq!(every_way(&bytes), [reference_checksum(&bytes); 3], "{len}");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_header_is_summed_as_any_bytes(header in proptest::array::uniform20(any::<u8>())) {
        prop_assert_eq!(finish(sum_of_20(&header)), reference_checksum(&header));
    }
}

#[test]
fn udp_never_says_that_it_has_none() {
    assert_eq!(finish(Sum::ZERO.add_u16(0xffff)), 0);
    assert_eq!(finish_udp(Sum::ZERO.add_u16(0xffff)), 0xffff);
    assert_eq!(finish_udp(Sum::ZERO.add_u16(0x1234)), !0x1234);
}

#[test]
fn pseudo_headers_are_their_bytes() {
    let (a, b) = (Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(255, 254, 253, 252));
    let bytes = [10, 1, 2, 3, 255, 254, 253, 252, 0, 17, 0x12, 0x34];
    assert_eq!(finish(pseudo_v4(a, b, 17, 0x1234)), reference_checksum(&bytes));
    let (a, b) = (Ipv6Addr::LOCALHOST, "fd00:1:2:3:4:5:6:7".parse::<Ipv6Addr>().unwrap());
    let bytes = [&a.octets()[..], &b.octets(), &[0, 1, 0x23, 0x45, 0, 0, 0, 6]].concat();
    assert_eq!(finish(pseudo_v6(a, b, 6, 0x12345)), reference_checksum(&bytes));
}

proptest! {
    #[test]
    fn equals_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..6_000)) {
        let expected = reference_checksum(&bytes);
        prop_assert_eq!(every_way(&bytes), [expected; 3]);
        for split in [0, 2, 20, 64, 66] {
            let Some((head, tail)) = bytes.split_at_checked(split) else { continue };
            let pieces = Sum::ZERO.add_bytes(head).join(sum(tail, Sum::ZERO));
            prop_assert_eq!(finish(pieces), expected);
        }
    }

    #[test]
    fn words_are_bytes(word in any::<u32>(), half in any::<u16>()) {
        let bytes = [&word.to_be_bytes()[..], &half.to_be_bytes()].concat();
        let words = Sum::ZERO.add_u32(word).add_u16(half);
        prop_assert_eq!(finish(words), reference_checksum(&bytes));
    }

    #[test]
    fn update_is_a_new_sum(
        mut bytes in proptest::collection::vec(any::<u8>(), 4..64),
        at in any::<prop::sample::Index>(),
        new in any::<u16>(),
    ) {
        let at = at.index(bytes.len() / 2) * 2;
        prop_assume!(at + 2 <= bytes.len());
        // Data that are all zero have two checksums; no IP header is.
        bytes[0] |= 0x45;
        let before = reference_checksum(&bytes);
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new = if at == 0 { new | 0x4500 } else { new };
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
        prop_assert_eq!(update(before, old, new), reference_checksum(&bytes));
    }
}
