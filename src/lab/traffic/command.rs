//! `flannel-udp lab-agent …`: the hidden subcommand that runs generators, sinks and the janitor.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::sink::Sink;
use super::tcp::{TcpOptions, TcpSource};
use super::udp::{EchoClient, EchoOptions, UdpOptions, UdpSource};
use crate::lab::janitor;

/// The kind of an agent.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum AgentCommand {
    /// Receive bulk TCP, count UDP, echo UDP
    Sink,
    /// Send bulk TCP
    Tcp(TcpOptions),
    /// Send numbered UDP packets
    Udp(UdpOptions),
    /// Measure round trips
    Echo(EchoOptions),
    /// Clean up a lab whose owner has died
    Janitor {
        /// Prefix of the names of the lab's namespaces
        prefix: String,
        /// The lab's directory
        scratch: PathBuf,
    },
}

/// Runs an agent until its standard input closes.
pub fn run_agent(command: AgentCommand) -> io::Result<()> {
    match command {
        AgentCommand::Sink => {
            let sink = Sink::start()?;
            serve(|_| sink.report())
        }
        AgentCommand::Tcp(options) => {
            let source = TcpSource::start(&options)?;
            serve(|line| {
                if line == STOP {
                    source.stop();
                }
                source.report()
            })
        }
        AgentCommand::Udp(options) => {
            let source = UdpSource::start(&options)?;
            serve(|line| {
                if line == STOP {
                    source.stop();
                }
                source.report()
            })
        }
        AgentCommand::Echo(options) => {
            let client = EchoClient::start(&options)?;
            serve(|line| {
                if line == MARK {
                    client.mark();
                }
                client.report()
            })
        }
        AgentCommand::Janitor { prefix, scratch } => {
            janitor::wait_and_clean(&prefix, scratch);
            Ok(())
        }
    }
}

/// Prints that the agent is ready, then answers every line of standard input.
fn serve<R: Serialize>(mut answer: impl FnMut(&str) -> R) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    for line in io::stdin().lock().lines() {
        let answer = serde_json::to_string(&answer(&line?))?;
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

/// Command: report the counters.
pub(super) const REPORT: &str = "report";

/// Command: clear the results of an echo client, then report.
pub(super) const MARK: &str = "mark";

/// Command: stop sending, then report.
pub(super) const STOP: &str = "stop";
