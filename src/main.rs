//! The daemon `flannel-udp` and its tools.

use std::process::ExitCode;

fn main() -> ExitCode {
    flannel_udp::cli::run(std::env::args_os())
}
