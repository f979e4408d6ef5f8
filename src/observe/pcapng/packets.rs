//! The packets in whole blocks, read back.

use super::{BlockReader, COMMENT, ENHANCED_PACKET, EPB_FLAGS, Order, PacketDirection};

/// A packet of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CapturedPacket<'a> {
    /// Number of its interface.
    pub interface: u32,
    /// Time, in nanoseconds of Unix time.
    pub time: u64,
    /// Length of the whole packet, in bytes.
    pub len: u32,
    /// The kept bytes.
    pub bytes: &'a [u8],
    /// Direction in which it passed the interface, if the block has it.
    pub direction: Option<PacketDirection>,
    /// Its comment; empty if it has none.
    pub comment: &'a str,
}

impl BlockReader {
    /// The packets in `blocks`, which [`BlockReader::whole_blocks`] has returned.
    pub fn packets_in<'a>(&self, mut blocks: &'a [u8]) -> impl Iterator<Item = CapturedPacket<'a>> {
        let order = self.order();
        let next_block = move || {
            let len = order.number(blocks.get(4..8)?) as usize;
            let (block, rest) = blocks.split_at_checked(len.max(12))?;
            blocks = rest;
            Some(block)
        };
        std::iter::from_fn(next_block).filter_map(move |block| packet(order, block))
    }
}

/// The packet in a block (section 4.3); `None` if the block is another or inconsistent.
fn packet(order: Order, block: &[u8]) -> Option<CapturedPacket<'_>> {
    let word = |at: usize| Some(order.number(block.get(at..at + 4)?) as u32);
    if word(0)? != ENHANCED_PACKET {
        return None;
    }
    let kept = word(20)? as usize;
    let options_at = BODY.checked_add(kept)?.next_multiple_of(4);
    let options = block.get(options_at..block.len() - 4)?;
    let flags = order.option(options, EPB_FLAGS).map(|flags| order.number(flags) & DIRECTION);
    let comment = order.option(options, COMMENT).unwrap_or_default();
    Some(CapturedPacket {
        interface: word(8)?,
        time: u64::from(word(12)?) << 32 | u64::from(word(16)?),
        len: word(24)?,
        bytes: block.get(BODY..BODY + kept)?,
        direction: match flags {
            Some(1) => Some(PacketDirection::Inbound),
            Some(2) => Some(PacketDirection::Outbound),
            _ => None,
        },
        comment: std::str::from_utf8(comment).unwrap_or_default(),
    })
}

/// Where the bytes of the packet begin in its block.
const BODY: usize = 28;
/// The bits of `epb_flags` that have the direction.
const DIRECTION: u64 = 3;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::{BlockWriter, Packet, Statistics};
    use super::*;

    #[test]
    fn packets_are_read_as_they_were_written() {
        for order in [Order::Little, Order::Big] {
            let writer = BlockWriter::new(order);
            let mut out = BytesMut::new();
            writer.section(&mut out, "", "", "test");
            writer.packet(
                &mut out,
                &Packet {
                    interface: 1,
                    time: 0x0102_0304_0506_0708,
                    len: 70,
                    bytes: [&[1, 2, 3], &[4, 5]],
                    direction: PacketDirection::Outbound,
                    lost: 2,
                    comment: "carried",
                },
            );
            writer.statistics(&mut out, &Statistics::default());
            let mut reader = BlockReader::default();
            reader.input().extend_from_slice(&out);
            let blocks = reader.whole_blocks().unwrap();
            let expected = CapturedPacket {
                interface: 1,
                time: 0x0102_0304_0506_0708,
                len: 70,
                bytes: &[1, 2, 3, 4, 5],
                direction: Some(PacketDirection::Outbound),
                comment: "carried",
            };
            assert_eq!(reader.packets_in(&blocks).collect::<Vec<_>>(), [expected]);
            for cut in 0..blocks.len() {
                reader.packets_in(&blocks[..cut]).for_each(drop);
            }
        }
    }
}
