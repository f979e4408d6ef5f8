//! `capture`: packets as the daemon sees them, into a file or a pipe, or as lines of text.

mod lines;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::QueryArgs;
use crate::args::values::{address_or_prefix, ip_protocol, seconds};
use crate::exit::{Code, Exit};
use crate::humanize::{self, printable};
use crate::observe::client::Stream;
use crate::observe::pcapng::BlockReader;
use crate::observe::protocol::Command;
use crate::observe::protocol::capture::{CaptureRequest, DirectionFilter, DropFilter, Verdict};
use crate::route::Cidr;
use crate::runtime::block_on;
use lines::PacketLines;

/// Arguments of `capture`.
#[derive(Clone, Debug, Args)]
pub struct CaptureArgs {
    /// Write a pcapng capture to a file, which is overwritten, or to standard output (-), instead of printing a
    /// line per packet
    #[arg(short = 'w', long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Print a line per packet as well as writing FILE
    #[arg(long, requires = "write")]
    pub print: bool,
    /// Stop after N packets; a packet seen at both interfaces counts once
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Stop after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Stop when the capture reaches this size
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_bytes: Option<u64>,
    /// Record this many bytes of each packet [default: 65535, or 256 without -w]
    #[arg(short = 's', long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub snaplen: Option<u32>,
    /// Only packets to or from the host with this underlay address
    #[arg(long, value_name = "ADDRESS")]
    pub peer: Option<Ipv4Addr>,
    /// Only packets to or from this container or subnet; given twice, only packets between the two
    #[arg(long, value_name = "ADDRESS[/LEN]", value_parser = address_or_prefix)]
    pub host: Vec<Cidr>,
    /// Only packets to or from this TCP or UDP port; repeatable
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// Only packets of this protocol: tcp, udp, icmp or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = ip_protocol)]
    pub proto: Option<u8>,
    /// Only packets from the other hosts (in) or to them (out)
    #[arg(long, value_name = "DIRECTION")]
    pub direction: Option<DirectionFilter>,
    /// Only packets with one of these verdicts
    #[arg(long, value_name = "VERDICT,…", value_delimiter = ',')]
    pub verdict: Vec<Verdict>,
    /// Only dropped packets; with =REASON,… only those dropped for one of these reasons
    #[arg(long, value_name = "REASON,…", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    pub drops: Option<Vec<String>>,
    /// Only one of the two interfaces: the TUN device (inner) or the UDP socket (outer)
    #[arg(long, value_name = "SIDE")]
    pub interface: Option<CaptureSide>,
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// One of the two interfaces of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CaptureSide {
    /// The TUN device, with inner packets.
    Inner,
    /// The UDP socket, with outer datagrams.
    Outer,
}

impl CaptureArgs {
    fn request(&self) -> CaptureRequest {
        CaptureRequest {
            peer: self.peer,
            hosts: self.host.clone(),
            ports: self.port.clone(),
            protocol: self.proto,
            direction: self.direction,
            verdicts: self.verdict.clone(),
            drops: self.drops.clone().map(DropFilter),
            inner_only: self.interface == Some(CaptureSide::Inner),
            outer_only: self.interface == Some(CaptureSide::Outer),
            snap_len: self.snaplen.or(self.write.is_none().then_some(SNAPLEN_OF_LINES)),
            count: self.count,
            milliseconds: self.duration.map(|time| time.as_millis() as u64),
            bytes: self.max_bytes,
        }
    }
}

impl CaptureArgs {
    fn writes_to_stdout(&self) -> bool {
        self.write.as_ref().is_some_and(|file| file.as_os_str() == "-")
    }

    fn prints(&self) -> bool {
        self.print || self.write.is_none()
    }
}

/// Records or prints packets until the capture ends, and prints how many.
///
/// # Errors
/// The daemon does not answer or ends the capture early, or the output cannot be written.
pub(super) fn run(args: &CaptureArgs) -> Result<(), Exit> {
    let to_stdout = args.writes_to_stdout();
    if to_stdout && args.print {
        return Err(Exit::usage(
            "error: --print and -w - both write to standard output: write the capture to a file",
        ));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(Exit::usage(
            "error: a capture is binary: write it to a file (-w FILE) or pipe it into a program, such as: \
             flannel-udp capture -w - | tcpdump -n -r -; without -w, a line is printed per packet",
        ));
    }
    // The daemon is asked before the file is opened, so that a rejected request does not truncate the file.
    let command = Command::Capture(Box::new(args.request()));
    let (interfaces, stream): (serde_json::Value, Stream) = args.query.client().open(&command)?;
    let name = |side: &str| printable(interfaces[side].as_str().unwrap_or(side));
    let names = [name("inner"), name("outer")];
    if !args.query.json {
        eprintln!("capturing at {} and {}; press Ctrl-C to stop", names[0], names[1]);
    }
    let mut output = Output {
        file: args.write.as_deref().map(open).transpose()?,
        lines: args.prints().then(|| PacketLines::new(args.interface, names, args.query.json)),
    };
    let mut blocks = BlockReader::default();
    let mut outcome = StreamEnd::Complete;
    block_on(async {
        outcome = copy(stream, &mut output, &mut blocks).await?;
        Ok(())
    })?;
    // A program that closes the pipe of the lines, such as `head`, has what it wanted.
    if outcome != StreamEnd::ReaderGone || !args.prints() {
        report(args, &blocks, &output, outcome);
    }
    match outcome {
        StreamEnd::Truncated => Err(Exit::new(
            Code::Unavailable,
            "error: the daemon stopped; the capture is complete up to that point",
        )),
        _ => Ok(()),
    }
}

fn open(file: &Path) -> Result<Box<dyn Write>, Exit> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(file).map_err(|error| {
        Exit::new(Code::CannotCreate, format!("error: cannot write {}: {error}", file.display()))
    })?;
    Ok(Box::new(file))
}

/// Where the packets go.
struct Output {
    /// The capture.
    file: Option<Box<dyn Write>>,
    /// Lines on standard output.
    lines: Option<PacketLines>,
}

impl Output {
    /// Writes blocks that are whole, and flushes them.
    fn write(&mut self, reader: &BlockReader, blocks: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(blocks)?;
            file.flush()?;
        }
        if let Some(lines) = &mut self.lines {
            let text = lines.of(reader.packets_in(blocks));
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    }
}

/// How the stream of a capture ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// With its final statistics.
    Complete,
    /// The daemon closed the socket before the final statistics.
    Truncated,
    /// The reader of the output closed its pipe.
    ReaderGone,
}

/// Copies the stream to `output` until it ends; SIGINT and SIGTERM ask the daemon to end it.
async fn copy(
    stream: Stream,
    output: &mut Output,
    blocks: &mut BlockReader,
) -> Result<StreamEnd, Exit> {
    let system = |error: io::Error| Exit::new(Code::System, format!("error: {error}"));
    blocks.input().extend_from_slice(stream.buffer());
    let socket = stream.into_inner();
    socket.set_nonblocking(true).map_err(system)?;
    let (mut reader, mut writer) = UnixStream::from_std(socket).map_err(system)?.into_split();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    loop {
        let whole = blocks
            .whole_blocks()
            .map_err(|error| Exit::new(Code::BadData, format!("error: {error}")))?;
        match output.write(blocks, &whole) {
            // Dropped before the next read, which then reuses the memory.
            Ok(()) => drop(whole),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(StreamEnd::ReaderGone);
            }
            Err(error) => {
                let text = format!("error: cannot write the capture: {error}");
                return Err(Exit::new(Code::CannotCreate, text));
            }
        }
        blocks.input().reserve(READ_SIZE);
        let len = loop {
            tokio::select! {
                len = reader.read_buf(blocks.input()) => break len,
                // The daemon then sends the remaining packets and the number of lost ones, and closes the socket.
                _ = interrupt.recv() => drop(writer.shutdown().await),
                _ = terminate.recv() => drop(writer.shutdown().await),
            }
        };
        match len {
            Ok(0) | Err(_) if blocks.is_complete => return Ok(StreamEnd::Complete),
            Ok(0) | Err(_) => return Ok(StreamEnd::Truncated),
            Ok(_) => {}
        }
    }
}

fn report(args: &CaptureArgs, blocks: &BlockReader, output: &Output, outcome: StreamEnd) {
    let BlockReader { packets, lost, .. } = blocks;
    if args.query.json {
        let complete = outcome == StreamEnd::Complete;
        let report = json!({ "version": 1, "frames": packets, "lost": lost, "complete": complete });
        if args.writes_to_stdout() || args.prints() {
            eprintln!("{report}");
        } else {
            println!("{report}");
        }
        return;
    }
    match &output.lines {
        Some(lines) if args.write.is_none() => {
            eprintln!("{} printed", humanize::counted(lines.count, "packet"));
        }
        _ => eprintln!("{} captured", humanize::counted(*packets, "frame")),
    }
    if *lost > 0 {
        eprintln!(
            "{} {} missing from the capture: it was not read fast enough (use a filter or a smaller --snaplen)",
            humanize::counted(*lost, "packet"),
            humanize::agree(*lost, "is", "are")
        );
    }
}

/// Bytes of a packet that the daemon sends if only lines are printed: those that a line is made of.
const SNAPLEN_OF_LINES: u32 = 256;
/// Bytes read from the socket at a time.
const READ_SIZE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CaptureArgs,
    }

    fn request(line: &str) -> Result<CaptureRequest, String> {
        let words = ["capture", "-w", "x"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args.request()).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_become_a_request() {
        let request = request(
            "--peer 10.211.55.2 --host 10.0.7.2 --host 10.0.8.0/24 --port 53 --port 80 --proto tcp \
             --direction out --verdict dropped,icmp-error --drops=no-route,over-mtu \
             --interface inner -s 96 -c 5 --duration 1.5",
        )
        .unwrap();
        let expected = CaptureRequest {
            peer: Some(Ipv4Addr::new(10, 211, 55, 2)),
            hosts: vec!["10.0.7.2/32".parse().unwrap(), "10.0.8.0/24".parse().unwrap()],
            ports: vec![53, 80],
            protocol: Some(6),
            direction: Some(DirectionFilter::Out),
            verdicts: vec![Verdict::Dropped, Verdict::IcmpError],
            drops: Some(DropFilter(vec!["no-route".into(), "over-mtu".into()])),
            inner_only: true,
            outer_only: false,
            snap_len: Some(96),
            count: Some(5),
            milliseconds: Some(1500),
            bytes: None,
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn drops_alone_means_all() {
        assert_eq!(request("--drops").unwrap().drops, Some(DropFilter(vec![])));
        assert_eq!(request("").unwrap().drops, None);
    }

    #[test]
    fn bad_values_are_named() {
        for bad in [
            "--host nonsense",
            "--proto ip",
            "--port 70000",
            "--duration -1",
            "--duration soon",
            "-s 0",
            "-s 65536",
            "-c 0",
            "--direction up",
            "--interface eth0",
            "--verdict lost",
            "--peer 10.0.0.0/8",
        ] {
            assert!(request(bad).is_err(), "{bad}");
        }
    }
}
