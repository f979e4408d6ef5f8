//! Traffic between containers: generators, sinks and their reports.
//!
//! Every generator and sink is a process of its own, `flannel-udp lab-agent …` in a container's
//! namespace, so that its CPU time is not counted as the tunnel's. An agent reads one command per line
//! from standard input, answers each with one line of JSON, and ends when its standard input closes.

mod agent;
mod command;
mod content;
mod latency;
mod sink;
mod tcp;
mod udp;

pub use agent::Agent;
pub use command::{AgentCommand, run_agent};
pub use content::{Checker, Content};
pub use latency::{LatencyHistogram, Percentiles};
pub use sink::{ECHO_PORT, SINK_PORT, SinkReport};
pub use tcp::{TcpOptions, TcpReport, Verified};
pub use udp::{EchoOptions, EchoReport, UdpOptions, UdpReport};
