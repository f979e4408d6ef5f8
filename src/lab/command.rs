//! The lab's subcommands.

use std::process::ExitCode;

use super::bench::{self, BenchArgs};
use super::demo::{self, DemoArgs};
use super::traffic::{AgentCommand, run_agent};
use super::{LabError, interrupt};

/// Subcommands that work in a lab.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum LabCommand {
    /// Two hosts on this machine: packets across, a transfer, a short measurement
    Demo(DemoArgs),
    /// The tunnel measured beside the kernel's VXLAN and the plain underlay
    Bench(Box<BenchArgs>),
    /// A generator, sink or janitor of a lab
    #[command(hide = true)]
    LabAgent {
        /// What it does
        #[command(subcommand)]
        agent: AgentCommand,
    },
}

/// Runs a subcommand to its end. Complaints go to standard error; 0 is success, 1 a failure, 130
/// an interruption.
pub fn run(command: LabCommand) -> ExitCode {
    let outcome = match command {
        LabCommand::Demo(arguments) => interrupt::listen().and_then(|()| demo::run(&arguments)),
        LabCommand::Bench(arguments) => interrupt::listen().and_then(|()| bench::run(&arguments)),
        LabCommand::LabAgent { agent } => {
            run_agent(agent).map_err(|e| LabError::Unusable(e.to_string()))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(LabError::Interrupted) => {
            eprintln!("interrupted; everything is taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("flannel-udp: {error}");
            ExitCode::FAILURE
        }
    }
}
