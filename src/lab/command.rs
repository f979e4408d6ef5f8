//! The lab's subcommands.

use super::bench::{self, BenchArgs};
use super::demo::{self, DemoArgs};
use super::traffic::{AgentCommand, run_agent};
use super::{LabError, interrupt};
use crate::exit::{Code, Exit};

/// Subcommands that work in a lab.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum LabCommand {
    /// Run two hosts on this machine: ping, a verified transfer, a short measurement
    Demo(DemoArgs),
    /// Compare the tunnel with kernel VXLAN and the plain underlay
    Bench(Box<BenchArgs>),
    /// Run a generator, sink or janitor of a lab
    #[command(hide = true)]
    LabAgent {
        /// The kind of agent
        #[command(subcommand)]
        agent: AgentCommand,
    },
}

/// Runs a subcommand to its end.
///
/// # Errors
/// [`Code::CheckFailed`] if the lab failed, [`Code::Interrupted`] after a signal.
pub fn run(command: LabCommand) -> Result<(), Exit> {
    let outcome = match command {
        LabCommand::Demo(arguments) => interrupt::listen().and_then(|()| demo::run(&arguments)),
        LabCommand::Bench(arguments) => interrupt::listen().and_then(|()| bench::run(&arguments)),
        LabCommand::LabAgent { agent } => {
            run_agent(agent).map_err(|e| LabError::Unusable(e.to_string()))
        }
    };
    outcome.map_err(|error| match error {
        LabError::Interrupted => Exit::new(Code::Interrupted, "interrupted; the lab was removed"),
        error => Exit::new(Code::CheckFailed, format!("flannel-udp: {error}")),
    })
}
