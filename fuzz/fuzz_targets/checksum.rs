//! Sums in pieces and at once, and the incremental update, against a plain loop.
#![no_main]
use flannel_packet::checksum::{self, Sum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (usize, usize, u16, &[u8])| {
    let (split, at, new, bytes) = input;
    let whole = checksum::finish(checksum::sum(bytes, Sum::ZERO));
    assert_eq!(whole, plain(bytes));
    let (head, tail) = bytes.split_at(split.min(bytes.len()) & !1);
    assert_eq!(checksum::finish(checksum::sum(tail, checksum::sum(head, Sum::ZERO))), whole);
    assert_eq!(checksum::finish(Sum::ZERO.add_bytes(head).join(Sum::ZERO.add_bytes(tail))), whole);
    let at = at.min(bytes.len()) & !1;
    let mut changed = bytes.to_vec();
    if let Some(field) = changed.get_mut(at..at + 2) {
        let old = u16::from_be_bytes([field[0], field[1]]);
        field.copy_from_slice(&new.to_be_bytes());
        let updated = checksum::update(whole, old, new);
        // Data of nothing but zeros have two sums that mean the same.
        assert!(updated == plain(&changed) || changed.iter().all(|byte| *byte == 0));
    }
});

fn plain(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
