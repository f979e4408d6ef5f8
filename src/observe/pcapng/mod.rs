//! Capture files in the pcapng format, as Wireshark, tshark and tcpdump read them
//! (draft-ietf-opsawg-pcapng; the section numbers below are those of revision 02).
//!
//! A file is a sequence of blocks, each with its length before and behind it. [`BlockWriter`] appends
//! blocks to a buffer; [`BlockReader`] splits a stream into whole blocks, and finds the packets in them.

mod packets;
mod reader;

use bytes::{BufMut, BytesMut};

pub use packets::CapturedPacket;
pub use reader::{BlockReader, NotPcapng};

/// The byte order of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The least significant first.
    Little,
    /// The most significant first.
    Big,
}

impl Order {
    /// That of this machine, which is what a writer uses.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };
}

/// Writes blocks in one byte order.
#[derive(Clone, Copy, Debug)]
pub struct BlockWriter {
    order: Order,
}

/// An interface that packets are seen at (section 4.2).
#[derive(Clone, Debug)]
pub struct Interface<'a> {
    /// Type of the first header of a packet: [`LINKTYPE_IPV4`].
    pub link_type: u16,
    /// Longest kept part of a packet, in bytes.
    pub snap_len: u32,
    /// Its name.
    pub name: &'a str,
    /// Description, for the user.
    pub description: &'a str,
}

/// One packet (section 4.3).
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// Number of its interface, in the order of [`BlockWriter::interface`], from 0.
    pub interface: u32,
    /// Time, in nanoseconds of Unix time.
    pub time: u64,
    /// Length of the whole packet, in bytes.
    pub len: u32,
    /// The kept bytes, in two parts.
    pub bytes: [&'a [u8]; 2],
    /// Direction in which it passed the interface.
    pub direction: PacketDirection,
    /// Packets lost at this interface since the previous one.
    pub lost: u64,
    /// Comment, for the user.
    pub comment: &'a str,
}

/// The direction bits of `epb_flags` (section 4.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketDirection {
    /// Into this host.
    Inbound = 1,
    /// Out of this host.
    Outbound = 2,
}

/// Numbers of packets of an interface (section 4.6).
#[derive(Clone, Debug, Default)]
pub struct Statistics<'a> {
    /// Number of the interface.
    pub interface: u32,
    /// Start of the capture, nanoseconds of Unix time.
    pub start: u64,
    /// End of the capture, nanoseconds of Unix time.
    pub end: u64,
    /// Packets that the filter selected.
    pub accepted: u64,
    /// Packets that the filter selected and that were lost.
    pub lost: u64,
    /// Packets that are in the file.
    pub delivered: u64,
    /// Comment, for the user.
    pub comment: &'a str,
}

impl BlockWriter {
    /// A writer in this byte order.
    pub fn new(order: Order) -> Self {
        Self { order }
    }

    /// Begins a section (4.1), of unknown length; `application` is what wrote it.
    pub fn section(self, out: &mut BytesMut, hardware: &str, os: &str, application: &str) {
        self.block(out, SECTION_HEADER, |block| {
            block.u32(MAGIC);
            block.u16(1);
            block.u16(0);
            block.u64(u64::MAX);
            block.text(SHB_HARDWARE, hardware);
            block.text(SHB_OS, os);
            block.text(SHB_USERAPPL, application);
            block.end_of_options();
        });
    }

    /// Describes the next interface, with times in nanoseconds.
    pub fn interface(self, out: &mut BytesMut, interface: &Interface<'_>) {
        self.block(out, INTERFACE_DESCRIPTION, |block| {
            block.u16(interface.link_type);
            block.u16(0);
            block.u32(interface.snap_len);
            block.text(IF_NAME, interface.name);
            block.text(IF_DESCRIPTION, interface.description);
            block.option(IF_TSRESOL, &[NANOSECONDS]);
            block.end_of_options();
        });
    }

    /// Appends a packet.
    pub fn packet(self, out: &mut BytesMut, packet: &Packet<'_>) {
        self.block(out, ENHANCED_PACKET, |block| {
            block.u32(packet.interface);
            block.time(packet.time);
            block.u32((packet.bytes[0].len() + packet.bytes[1].len()) as u32);
            block.u32(packet.len);
            packet.bytes.iter().for_each(|part| block.out.put_slice(part));
            block.pad();
            block.option(EPB_FLAGS, &block.order_u32(packet.direction as u32));
            if packet.lost > 0 {
                block.option(EPB_DROPCOUNT, &block.order_u64(packet.lost));
            }
            block.text(COMMENT, packet.comment);
            block.end_of_options();
        });
    }

    /// Appends the statistics of an interface.
    pub fn statistics(self, out: &mut BytesMut, statistics: &Statistics<'_>) {
        self.block(out, INTERFACE_STATISTICS, |block| {
            block.u32(statistics.interface);
            block.time(statistics.end);
            block.time_option(ISB_STARTTIME, statistics.start);
            block.time_option(ISB_ENDTIME, statistics.end);
            block.option(ISB_IFDROP, &block.order_u64(statistics.lost));
            block.option(ISB_FILTERACCEPT, &block.order_u64(statistics.accepted));
            block.option(ISB_USRDELIV, &block.order_u64(statistics.delivered));
            block.text(COMMENT, statistics.comment);
            block.end_of_options();
        });
    }

    fn block(self, out: &mut BytesMut, kind: u32, body: impl FnOnce(&mut Block<'_>)) {
        let start = out.len();
        let mut block = Block { out, start, order: self.order };
        block.u32(kind);
        block.u32(0);
        body(&mut block);
        let len = block.order_u32((block.out.len() - start + 4) as u32);
        block.out.put_slice(&len);
        block.out[start + 4..start + 8].copy_from_slice(&len);
    }
}

/// A block being written.
struct Block<'a> {
    out: &'a mut BytesMut,
    start: usize,
    order: Order,
}

impl Block<'_> {
    fn u16(&mut self, value: u16) {
        match self.order {
            Order::Little => self.out.put_u16_le(value),
            Order::Big => self.out.put_u16(value),
        }
    }

    fn u32(&mut self, value: u32) {
        match self.order {
            Order::Little => self.out.put_u32_le(value),
            Order::Big => self.out.put_u32(value),
        }
    }

    fn u64(&mut self, value: u64) {
        match self.order {
            Order::Little => self.out.put_u64_le(value),
            Order::Big => self.out.put_u64(value),
        }
    }

    /// A timestamp: the upper half first, in either byte order.
    fn time(&mut self, time: u64) {
        self.u32((time >> 32) as u32);
        self.u32(time as u32);
    }

    fn time_option(&mut self, code: u16, time: u64) {
        self.u16(code);
        self.u16(8);
        self.time(time);
    }

    /// A text option; nothing if the text is empty.
    fn text(&mut self, code: u16, text: &str) {
        if !text.is_empty() {
            self.option(code, text.as_bytes());
        }
    }

    /// An option. A value that is too long for an option is cut, which can only happen to a text.
    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(MAX_OPTION)];
        self.u16(code);
        self.u16(value.len() as u16);
        self.out.put_slice(value);
        self.pad();
    }

    fn end_of_options(&mut self) {
        self.u32(0);
    }

    /// Pads the block to a multiple of four bytes.
    fn pad(&mut self) {
        let len = self.out.len() - self.start;
        self.out.put_bytes(0, len.next_multiple_of(4) - len);
    }

    fn order_u32(&self, value: u32) -> [u8; 4] {
        match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }

    fn order_u64(&self, value: u64) -> [u8; 8] {
        match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }
}

/// Packets begin with an IPv4 header (registry of link types of tcpdump.org).
///
/// Not `LINKTYPE_RAW`: libpcap translates that number when it reads the first interface and compares the second
/// one's without translating it, so tcpdump refuses a file with two interfaces of that type (`sf-pcapng.c`).
pub const LINKTYPE_IPV4: u16 = 228;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Byte-order magic of a section (4.1).
const MAGIC: u32 = 0x1a2b_3c4d;

const COMMENT: u16 = 1;
const SHB_HARDWARE: u16 = 2;
const SHB_OS: u16 = 3;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFDROP: u16 = 5;
const ISB_FILTERACCEPT: u16 = 6;
const ISB_USRDELIV: u16 = 8;

/// `if_tsresol`: the negative power of ten.
const NANOSECONDS: u8 = 9;
const MAX_OPTION: usize = u16::MAX as usize;

#[cfg(test)]
mod tests;
