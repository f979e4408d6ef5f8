//! The frames of a pcap or pcapng file.

use std::fmt;
use std::io::{self, Read};

use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

/// A frame of a capture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// The bytes that were captured, link layer included.
    pub(crate) bytes: &'a [u8],
    /// Length in bytes that the frame had on the wire, at least that of `bytes`.
    pub(crate) wire_len: usize,
}

/// Why a capture was not read to its end.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file cannot be read.
    Io(io::Error),
    /// What the frames are shown on cannot be written to.
    Output(io::Error),
    /// The file is neither pcap nor pcapng.
    NoCapture,
    /// The file ends within a header, a block or a frame.
    CutShort,
    /// A block is not as its format wants it, at this offset in the file.
    Malformed(usize),
    /// A block is longer than any capture program writes, at this offset in the file.
    TooLong(usize),
    /// A frame names an interface that the file does not describe.
    UnknownInterface(u32),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write: {error}"),
            Self::NoCapture => f.write_str("neither pcap nor pcapng"),
            Self::CutShort => f.write_str("the file is cut short: its last frame is incomplete"),
            Self::Malformed(at) => write!(f, "malformed block at byte {at}"),
            Self::TooLong(at) => write!(f, "block of more than {LONGEST} bytes at byte {at}"),
            Self::UnknownInterface(id) => {
                write!(f, "a frame of interface {id}, which is not described")
            }
        }
    }
}

/// Calls `show` with the link type and the bytes of each frame in `file`, in the file's order.
///
/// # Errors
/// [`ReadError`]; the frames before the one that cannot be read have been shown.
pub(crate) fn read(
    file: impl Read + Send,
    mut show: impl FnMut(u32, Frame<'_>) -> io::Result<()>,
) -> Result<(), ReadError> {
    let mut reader = create_reader(LONGEST, file).map_err(|error| match error {
        PcapError::Incomplete(_) => ReadError::CutShort,
        PcapError::ReadError => ReadError::Io(io::ErrorKind::Other.into()),
        _ => ReadError::NoCapture,
    })?;
    // The link type and the snap length of each interface of the section; pcap has one.
    let mut interfaces: Vec<(u32, usize)> = Vec::new();
    loop {
        let at = reader.consumed();
        let len = match reader.next() {
            Ok((len, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        // The upper bits say whether frames end with a checksum.
                        let link = header.network.0 as u32 & 0xffff;
                        interfaces = vec![(link, usize::MAX)];
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        let frame = frame(packet.data, packet.origlen);
                        let (link, _) = interface(&interfaces, 0)?;
                        show(link, frame).map_err(ReadError::Output)?;
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
                    PcapBlockOwned::NG(Block::InterfaceDescription(described)) => {
                        // A snap length of 0 is none.
                        let snap_len = match described.snaplen {
                            0 => usize::MAX,
                            len => len as usize,
                        };
                        interfaces.push((described.linktype.0 as u32, snap_len));
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        let (link, _) = interface(&interfaces, packet.if_id)?;
                        let frame = frame(packet.packet_data(), packet.origlen);
                        show(link, frame).map_err(ReadError::Output)?;
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                        // This block alone does not say how much of the frame it holds.
                        let (link, snap_len) = interface(&interfaces, 0)?;
                        let bytes = packet.packet_data();
                        let bytes = bytes.get(..snap_len).unwrap_or(bytes);
                        show(link, frame(bytes, packet.origlen)).map_err(ReadError::Output)?;
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                len
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|_| ReadError::Io(io::ErrorKind::Other.into()))?;
                continue;
            }
            Err(PcapError::UnexpectedEof) => return Err(ReadError::CutShort),
            Err(PcapError::BufferTooSmall) => return Err(ReadError::TooLong(at)),
            Err(_) => return Err(ReadError::Malformed(at)),
        };
        reader.consume(len);
    }
}

fn frame(bytes: &[u8], wire_len: u32) -> Frame<'_> {
    Frame { bytes, wire_len: bytes.len().max(wire_len as usize) }
}

fn interface(interfaces: &[(u32, usize)], id: u32) -> Result<(u32, usize), ReadError> {
    interfaces.get(id as usize).copied().ok_or(ReadError::UnknownInterface(id))
}

/// Longest block in bytes: far beyond a frame of tcpdump's greatest snap length, 262,144.
const LONGEST: usize = 4 << 20;
