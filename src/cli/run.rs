//! From a command line to its work.

use std::ffi::OsString;
use std::future::Future;
use std::process::{ExitCode, Termination};

use tokio::runtime::Runtime;

use super::commands::Tool;
use super::{Code, Command, Exit, capture, daemon, inspect, leases, parse, tools};
use crate::{doctor, lab};

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

/// Runs a tool's work on this thread.
pub(super) fn block_on(work: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    runtime(|| {})?.block_on(work)
}

/// What runs work on this thread; what blocks goes to threads that call `first` before all else.
pub(super) fn runtime(first: impl Fn() + Send + Sync + 'static) -> Result<Runtime, Exit> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(first)
        .build()
        .map_err(|error| Exit::new(Code::System, format!("cannot start: {error}")))
}
