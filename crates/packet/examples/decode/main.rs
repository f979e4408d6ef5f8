//! Prints the packets of a capture as tcpdump would, by the packet library.
//!
//! ```text
//! cargo run --package flannel-packet --example decode -- crates/packet/tests/data/lab.pcap
//! ```
//!
//! Reads pcap and pcapng of the link types that tcpdump writes on Linux and the BSDs: Ethernet with
//! any number of VLAN tags, Linux "cooked" (both versions), raw IP, null and loop. Where a datagram of
//! flannel's port carries an inner packet, it is printed behind the outer one.
//!
//! Exit codes: 0, 1 where the file cannot be read or is cut short, 2 for wrong usage.

mod capture;
mod frame;

use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(path), None) = (args.next(), args.next()) else {
        eprintln!("usage: decode CAPTURE");
        return ExitCode::from(2);
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let file = std::fs::File::open(&path).map_err(capture::ReadError::Io);
    let result = file.and_then(|file| {
        capture::read(file, |link, captured| writeln!(out, "{}", frame::describe(link, captured)))
    });
    let result = result.and_then(|()| out.flush().map_err(capture::ReadError::Output));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough, such as `head`, is no error.
        Err(capture::ReadError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // What was read before the error has its place before it.
            let _ = out.flush();
            eprintln!("decode: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}
