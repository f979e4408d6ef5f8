//! Traffic between containers: generators, sinks and what they report.
//!
//! Every generator and sink is a process of its own, this program run as `lab-agent …` inside a
//! container's namespace, so that what it costs is its own and not the tunnel's. Agents take
//! commands, one a line, on standard input, answer each with one line of JSON, and end when their
//! standard input closes.

mod agent;
mod command;
mod content;
mod histogram;
mod sink;
mod tcp;
mod udp;

pub use agent::Agent;
pub use command::{AgentCommand, run_agent};
pub use content::{Checker, Content};
pub use histogram::{Histogram, Percentiles};
pub use sink::{ECHO_PORT, SINK_PORT, SinkReport};
pub use tcp::{TcpOptions, TcpReport, Verified};
pub use udp::{EchoOptions, EchoReport, UdpOptions, UdpReport};
