//! From a command line to its work.

use std::ffi::OsString;
use std::process::{ExitCode, Termination};

use super::commands::Tool;
use super::{Code, Command, Exit, capture, inspect, leases, parse, tools};
use crate::runtime::block_on;
use crate::{daemon, doctor, lab};

/// Runs the program with these arguments, its own name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match parse(args) {
        Ok(Command::Daemon(options)) => daemon::run(&options),
        Ok(Command::Tool(tool)) => match *tool {
            Tool::Lab(command) => return lab::run(command),
            tool => run_tool(tool),
        },
        Err(exit) => Err(exit),
    };
    match outcome {
        Ok(()) => Code::Ok.into(),
        Err(exit) => exit.report(),
    }
}

fn run_tool(tool: Tool) -> Result<(), Exit> {
    match tool {
        Tool::Status(args) => inspect::status::run(&args),
        Tool::Peers(args) => inspect::peers::run(&args),
        Tool::Routes(args) => inspect::routes::run(&args),
        Tool::Explain(args) => inspect::explain::run(&args),
        #[cfg(feature = "top")]
        Tool::Top(args) => super::top::run(&args),
        Tool::Capture(args) => capture::run(&args),
        Tool::LogLevel(args) => inspect::log_level::run(&args),
        Tool::DockerOpts(args) => block_on(tools::docker_opts(&args)),
        Tool::Cleanup(args) => block_on(tools::cleanup(&args)),
        Tool::Completions(args) => {
            tools::completions(&args);
            Ok(())
        }
        Tool::Doctor(args) => block_on(doctor::run(&args)),
        Tool::Leases(args) => block_on(leases::run(&args)),
        Tool::Lab(_) => unreachable!("the lab has its own exit codes"),
    }
}
