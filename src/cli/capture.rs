//! `capture`: packets as the daemon sees them, into a file or a pipe.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::QueryArgs;
use crate::args::values::{address_or_prefix, ip_protocol};
use crate::exit::{Code, Exit};
use crate::observe::client::Stream;
use crate::observe::pcapng::BlockReader;
use crate::observe::protocol::Command;
use crate::observe::protocol::capture::{Drops, Request, Way};
use crate::route::Cidr;
use crate::runtime::block_on;

/// Arguments of `capture`.
#[derive(Clone, Debug, Args)]
pub struct CaptureArgs {
    /// Where the capture goes: a file, which is replaced, or - for standard output
    #[arg(short = 'w', long, value_name = "FILE")]
    pub write: PathBuf,
    /// End after so many packets; one that is seen at both interfaces counts once
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<u64>,
    /// End once the capture has so many bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_bytes: Option<u64>,
    /// Keep so many bytes of each packet
    #[arg(
        short = 's', long, value_name = "BYTES", default_value_t = 65_535,
        value_parser = clap::value_parser!(u32).range(1..=65_535)
    )]
    pub snaplen: u32,
    /// Only packets to or from the host with this address, that between hosts
    #[arg(long, value_name = "ADDRESS")]
    pub peer: Option<Ipv4Addr>,
    /// Only packets to or from this container or subnet; given twice: between the two
    #[arg(long, value_name = "ADDRESS[/LEN]", value_parser = address_or_prefix)]
    pub host: Vec<Cidr>,
    /// Only packets to or from this TCP or UDP port; may be given several times
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// Only packets of this protocol: tcp, udp, icmp or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = ip_protocol)]
    pub proto: Option<u8>,
    /// Only packets from the other hosts (in) or to them (out)
    #[arg(long, value_name = "WAY")]
    pub direction: Option<Way>,
    /// Only dropped packets; with =REASON,… those dropped for one of these reasons
    #[arg(long, value_name = "REASON,…", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    pub drops: Option<Vec<String>>,
    /// Only one of the two interfaces: flannel0's, or that of the datagrams
    #[arg(long, value_name = "SIDE")]
    pub interface: Option<Side>,
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// An interface of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// The TUN device.
    Inner,
    /// The datagrams.
    Outer,
}

impl CaptureArgs {
    fn request(&self) -> Request {
        Request {
            peer: self.peer,
            hosts: self.host.clone(),
            ports: self.port.clone(),
            protocol: self.proto,
            direction: self.direction,
            drops: self.drops.clone().map(Drops),
            inner_only: self.interface == Some(Side::Inner),
            outer_only: self.interface == Some(Side::Outer),
            snap_len: Some(self.snaplen),
            count: self.count,
            milliseconds: self.duration,
            bytes: self.max_bytes,
        }
    }
}

/// Runs `capture`.
pub(super) fn run(args: &CaptureArgs) -> Result<(), Exit> {
    let to_stdout = args.write.as_os_str() == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err(Exit::usage(
            "error: a capture is no text for a terminal: write it to a file (-w FILE) or into a \
             program, such as: flannel-udp capture -w - | tcpdump -n -r -",
        ));
    }
    // Asked before the file is touched: one that exists is not lost to a question that is refused.
    let command = Command::Capture(Box::new(args.request()));
    let (interfaces, stream): (serde_json::Value, Stream) = args.query.client().open(&command)?;
    let mut output: Box<dyn Write> = match to_stdout {
        true => Box::new(io::stdout()),
        false => Box::new(File::create(&args.write).map_err(|error| {
            let file = args.write.display();
            Exit::new(Code::CannotCreate, format!("error: cannot write {file}: {error}"))
        })?),
    };
    if !args.query.json {
        let name = |side: &str| interfaces[side].as_str().unwrap_or(side).to_owned();
        eprintln!("capturing at {} and {}; Ctrl-C ends it", name("inner"), name("outer"));
    }
    let mut blocks = BlockReader::default();
    let mut outcome = Outcome::Whole;
    block_on(async {
        outcome = follow(stream, &mut *output, &mut blocks).await?;
        Ok(())
    })?;
    report(args, &blocks, outcome);
    match outcome {
        Outcome::Cut => Err(Exit::new(
            Code::Unavailable,
            "error: the daemon went away; the capture is whole up to there",
        )),
        _ => Ok(()),
    }
}

/// How a capture ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// With its last words.
    Whole,
    /// The daemon's end of the socket closed before them.
    Cut,
    /// Nobody reads what is written any more.
    NotRead,
}

/// Copies the stream until it ends; a signal asks the daemon to end it.
async fn follow(
    stream: Stream,
    output: &mut dyn Write,
    blocks: &mut BlockReader,
) -> Result<Outcome, Exit> {
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
        match output.write_all(&whole).and_then(|()| output.flush()) {
            // Before the next read, which then uses its memory again.
            Ok(()) => drop(whole),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::NotRead),
            Err(error) => {
                let words = format!("error: cannot write the capture: {error}");
                return Err(Exit::new(Code::CannotCreate, words));
            }
        }
        blocks.input().reserve(PIECE);
        let len = loop {
            tokio::select! {
                len = reader.read_buf(blocks.input()) => break len,
                // The daemon sends what is left, says what was lost, and closes.
                _ = interrupt.recv() => drop(writer.shutdown().await),
                _ = terminate.recv() => drop(writer.shutdown().await),
            }
        };
        match len {
            Ok(0) | Err(_) if blocks.is_complete => return Ok(Outcome::Whole),
            Ok(0) | Err(_) => return Ok(Outcome::Cut),
            Ok(_) => {}
        }
    }
}

fn report(args: &CaptureArgs, blocks: &BlockReader, outcome: Outcome) {
    let BlockReader { packets, lost, .. } = blocks;
    if args.query.json {
        let complete = outcome == Outcome::Whole;
        let report = json!({ "version": 1, "frames": packets, "lost": lost, "complete": complete });
        match args.write.as_os_str() == "-" {
            true => eprintln!("{report}"),
            false => println!("{report}"),
        }
        return;
    }
    eprintln!("{packets} frames captured");
    if *lost > 0 {
        eprintln!(
            "{lost} packets lost to the capture: it was not read fast enough (a filter or a smaller \
             --snaplen helps)"
        );
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=1e9).contains(&seconds) => Ok((seconds * 1e3) as u64),
        _ => Err("not a time in seconds, such as 10 or 0.5".into()),
    }
}

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CaptureArgs,
    }

    fn request(line: &str) -> Result<Request, String> {
        let words = ["capture", "-w", "x"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args.request()).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_become_a_request() {
        let request = request(
            "--peer 10.211.55.2 --host 10.0.7.2 --host 10.0.8.0/24 --port 53 --port 80 --proto tcp \
             --direction out --drops=no-route,over-mtu --interface inner -s 96 -c 5 --duration 1.5",
        )
        .unwrap();
        let expected = Request {
            peer: Some(Ipv4Addr::new(10, 211, 55, 2)),
            hosts: vec!["10.0.7.2/32".parse().unwrap(), "10.0.8.0/24".parse().unwrap()],
            ports: vec![53, 80],
            protocol: Some(6),
            direction: Some(Way::Out),
            drops: Some(Drops(vec!["no-route".into(), "over-mtu".into()])),
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
        assert_eq!(request("--drops").unwrap().drops, Some(Drops(vec![])));
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
            "--peer 10.0.0.0/8",
        ] {
            assert!(request(bad).is_err(), "{bad}");
        }
    }
}
