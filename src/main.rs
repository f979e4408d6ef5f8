//! The program `flannel-udp`.

use std::process::{ExitCode, Termination};

use flannel_udp::cli::commands::Tool;
use flannel_udp::cli::{self, Command};
use flannel_udp::lab;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Tool(Tool::Lab(command))) => lab::run(command),
        Ok(_) => ExitCode::FAILURE,
        Err(exit) => exit.report(),
    }
}
