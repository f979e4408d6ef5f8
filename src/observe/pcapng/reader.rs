//! Splits a stream into blocks, and counts the packets in it and those that were lost.

use bytes::{Bytes, BytesMut};

use super::{ENHANCED_PACKET, INTERFACE_STATISTICS, ISB_IFDROP, MAGIC, Order, SECTION_HEADER};

/// Reads a capture as it arrives, in pieces of any length.
#[derive(Default, Debug)]
pub struct BlockReader {
    /// What has arrived and was not handed on: at most one block that has not ended.
    pending: BytesMut,
    order: Option<Order>,
    /// Number of packets, at all interfaces together.
    pub packets: u64,
    /// Number of packets lost, by the interface statistics, at the interface that lost most.
    pub lost: u64,
    /// Whether interface statistics have arrived: they end a capture.
    pub is_complete: bool,
}

/// The stream is not a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the daemon sent something that is not a pcapng capture")]
pub struct NotPcapng;

impl BlockReader {
    /// The buffer that the next bytes of the stream are to be appended to.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.pending
    }

    /// Takes the blocks that are whole out of the input.
    ///
    /// # Errors
    /// [`NotPcapng`].
    pub fn whole_blocks(&mut self) -> Result<Bytes, NotPcapng> {
        let mut start = 0;
        while let Some(len) = self.block_len(start)? {
            let Some(block) = self.pending.get(start..start + len) else { break };
            match self.number(&block[..4]) as u32 {
                ENHANCED_PACKET => self.packets += 1,
                INTERFACE_STATISTICS => {
                    self.lost = self.lost.max(self.dropped(block));
                    self.is_complete = true;
                }
                _ => {}
            }
            start += len;
        }
        Ok(self.pending.split_to(start).freeze())
    }

    /// The length of the block at `start` of the input, once its head has arrived.
    fn block_len(&mut self, start: usize) -> Result<Option<usize>, NotPcapng> {
        let Some(head) = self.pending.get(start..start + 12) else { return Ok(None) };
        if head[..4] == SECTION_HEADER.to_be_bytes() {
            self.order = Some(match &head[8..12] {
                magic if magic == MAGIC.to_le_bytes() => Order::Little,
                magic if magic == MAGIC.to_be_bytes() => Order::Big,
                _ => return Err(NotPcapng),
            });
        } else if self.order.is_none() {
            return Err(NotPcapng);
        }
        match self.number(&head[4..8]) as usize {
            len if len % 4 == 0 && (12..=MAX_BLOCK).contains(&len) => Ok(Some(len)),
            _ => Err(NotPcapng),
        }
    }

    /// `isb_ifdrop` of a statistics block; 0 where there is none.
    fn dropped(&self, block: &[u8]) -> u64 {
        let options = block.get(20..block.len() - 4).unwrap_or_default();
        self.order().option(options, ISB_IFDROP).map_or(0, |value| self.number(value))
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        self.order().number(bytes)
    }

    /// The byte order of the stream; this machine's until the stream begins.
    pub(super) fn order(&self) -> Order {
        self.order.unwrap_or(Order::NATIVE)
    }
}

impl Order {
    /// A number of up to eight bytes.
    pub(super) fn number(self, bytes: &[u8]) -> u64 {
        let append = |number, &byte| number << 8 | u64::from(byte);
        match self {
            Self::Big => bytes.iter().fold(0, append),
            Self::Little => bytes.iter().rev().fold(0, append),
        }
    }

    /// The value of the first option with this code among the options of a block.
    pub(super) fn option(self, options: &[u8], code: u16) -> Option<&[u8]> {
        let mut at = 0;
        loop {
            let (found, len) = options.get(at..at + 4)?.split_at(2);
            let value = at + 4..at + 4 + self.number(len) as usize;
            if self.number(found) == u64::from(code) {
                return options.get(value);
            }
            at = value.end.next_multiple_of(4);
        }
    }
}

/// Longest block, in bytes. The daemon sends no longer ones: a packet has at most 64 KiB, and so has an option.
const MAX_BLOCK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::{
        BlockWriter, Interface, LINKTYPE_IPV4, Packet, PacketDirection, Statistics,
    };
    use super::*;

    fn capture(order: Order) -> BytesMut {
        let writer = BlockWriter::new(order);
        let mut out = BytesMut::new();
        writer.section(&mut out, "", "", "test");
        let interface =
            Interface { link_type: LINKTYPE_IPV4, snap_len: 100, name: "inner", description: "" };
        writer.interface(&mut out, &interface);
        for len in 0..5 {
            let packet = Packet {
                interface: 0,
                time: 1,
                len,
                bytes: [&[7; 5][..len as usize], &[]],
                direction: PacketDirection::Inbound,
                lost: 0,
                comment: "carried",
            };
            writer.packet(&mut out, &packet);
        }
        for lost in [3, 1 << 40] {
            writer
                .statistics(&mut out, &Statistics { lost, comment: "lost", ..Default::default() });
        }
        out
    }

    #[test]
    fn whole_blocks_are_found_whatever_the_pieces() {
        for order in [Order::Little, Order::Big] {
            let capture = capture(order);
            for size in [1, 3, 16, 1_000] {
                let (mut reader, mut whole) = (BlockReader::default(), vec![]);
                for piece in capture.chunks(size) {
                    reader.input().extend_from_slice(piece);
                    whole.extend_from_slice(&reader.whole_blocks().unwrap());
                    assert!(whole.len() % 4 == 0 && capture.starts_with(&whole));
                }
                assert_eq!(whole, capture);
                assert_eq!((reader.packets, reader.lost, reader.is_complete), (5, 1 << 40, true));
            }
        }
    }

    #[test]
    fn a_block_without_its_end_is_kept() {
        let capture = capture(Order::NATIVE);
        let mut reader = BlockReader::default();
        reader.input().extend_from_slice(&capture[..capture.len() - 1]);
        let first = reader.whole_blocks().unwrap();
        assert!(first.len() < capture.len() - 1);
        assert!(reader.is_complete, "by the statistics before");
        reader.input().extend_from_slice(&capture[capture.len() - 1..]);
        let last = reader.whole_blocks().unwrap();
        assert_eq!([first, last].concat(), capture);
    }

    #[test]
    fn anything_else_is_refused() {
        let read = |bytes: &[u8]| {
            let mut reader = BlockReader::default();
            reader.input().extend_from_slice(bytes);
            reader.whole_blocks()
        };
        for bad in [b"HTTP/1.1 400 Bad Request", &[0; 64][..]] {
            assert_eq!(read(bad), Err(NotPcapng));
        }
        let mut capture = capture(Order::NATIVE);
        capture[4..8].copy_from_slice(&[0xff; 4]);
        assert_eq!(read(&capture), Err(NotPcapng));
    }
}
