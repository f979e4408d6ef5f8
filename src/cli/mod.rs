//! The command line of the program: its parser and one file per command.
//!
//! A command is one file with its arguments and a `run` function. It is listed in [`Tool`] and dispatched in
//! `Tool::run`, both below; nothing else in the tree names it.

mod bugreport;
mod capture;
mod cleanup;
mod completions;
mod docker_opts;
mod examples;
mod explain;
mod host_names;
mod leases;
mod log_level;
mod parse;
mod peers;
mod ping;
mod repeat;
mod routes;
mod samples;
mod status;
mod table;
mod terminal;
#[cfg(feature = "top")]
mod top;

use std::ffi::OsString;
use std::process::{ExitCode, Termination};

use clap::Subcommand;

pub use crate::exit::{Code, Exit};
use crate::lab::{self, LabCommand};
use crate::runtime::block_on;
use crate::{daemon, doctor};
pub use examples::{Example, examples};
pub use parse::{CommandLine, Invocation, clap_command, parse, parse_from};

/// The commands of the program, beside the daemon.
#[derive(Clone, Debug, Subcommand)]
pub enum Tool {
    /// Demonstration and benchmark, in network namespaces on this machine.
    #[command(flatten)]
    Lab(LabCommand),
    /// Show the state of the daemon on this host: lease, lease store, kernel features, traffic, drops
    Status(status::StatusArgs),
    /// Show the other hosts
    Peers(peers::PeersArgs),
    /// Ping a peer through the overlay and on the underlay: round trip, loss, path MTU
    Ping(ping::PingArgs),
    /// Show the route table
    Routes(routes::RoutesArgs),
    /// Explain what happens to a packet: route, next hop, TTL, checks, masquerading
    Explain(explain::ExplainArgs),
    /// Watch the daemon live: rates, peers, drops, threads
    #[cfg(feature = "top")]
    Top(top::TopArgs),
    /// Print or record packets as the daemon sees them, each with its verdict
    Capture(capture::CaptureArgs),
    /// Print or change the log level of the running daemon
    LogLevel(log_level::LogLevelArgs),
    /// Turn subnet.env into options for dockerd, as mk-docker-opts.sh does
    DockerOpts(docker_opts::DockerOptsArgs),
    /// Remove the firewall rules, routes and files that the daemon (or flanneld) left on this host
    Cleanup(cleanup::CleanupArgs),
    /// List, reserve and release subnets
    Leases(leases::LeasesArgs),
    /// Check this host, the lease store and every peer, and print remedies
    Doctor(Box<doctor::DoctorArgs>),
    /// Collect what a bug report needs into one archive, without secrets
    Bugreport(bugreport::BugreportArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Tool {
    fn run(self) -> Result<(), Exit> {
        match self {
            Self::Lab(command) => lab::run(command),
            Self::Status(args) => status::run(&args),
            Self::Peers(args) => peers::run(&args),
            Self::Ping(args) => block_on(ping::run(&args)),
            Self::Routes(args) => routes::run(&args),
            Self::Explain(args) => explain::run(&args),
            #[cfg(feature = "top")]
            Self::Top(args) => top::run(&args),
            Self::Capture(args) => capture::run(&args),
            Self::LogLevel(args) => log_level::run(&args),
            Self::DockerOpts(args) => block_on(docker_opts::run(&args)),
            Self::Cleanup(args) => block_on(cleanup::run(&args)),
            Self::Leases(args) => block_on(leases::run(&args)),
            Self::Doctor(args) => block_on(doctor::run(&args)),
            Self::Bugreport(args) => block_on(bugreport::run(&args)),
            Self::Completions(args) => {
                completions::run(&args);
                Ok(())
            }
        }
    }
}

/// Runs the program with these arguments, its own name first, and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match parse(args) {
        Ok(Invocation::Daemon(options)) => daemon::run(&options),
        Ok(Invocation::Check(options, problems)) => daemon::check(&options, problems),
        Ok(Invocation::Tool(tool)) => tool.run(),
        Err(exit) => Err(exit),
    };
    match outcome {
        Ok(()) => Code::Ok.into(),
        Err(exit) => exit.report(),
    }
}
