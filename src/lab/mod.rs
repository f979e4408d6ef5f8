//! Two or more hosts on one machine, in network namespaces: demo, benchmark and tests.
//!
//! [`Lab`] builds the hosts, runs daemons (and etcd) on them and takes everything down on drop.
//! [`traffic`] has the generators, [`ping`] a ping that tells the TTL it saw.

mod bench;
mod command;
mod daemon;
mod demo;
mod error;
mod etcd;
mod host;
pub mod interrupt;
mod janitor;
mod kernel;
pub mod ping;
mod privilege;
mod process;
mod scratch;
pub mod tool;
mod topology;
pub mod traffic;
mod underlay;

pub use bench::BenchArgs;
pub use command::{LabCommand, run};
pub use daemon::{Daemon, DaemonOptions, Registry};
pub use demo::DemoArgs;
pub use error::LabError;
pub use etcd::{Etcd, PREFIX as ETCD_PREFIX};
pub use host::{BRIDGE, Container, Host, Subnet};
pub use kernel::subnet as kernel_subnet;
pub use privilege::{Privilege, ensure as ensure_privilege, have as have_privilege};
pub use process::Process;
pub use topology::{Lab, LabBuilder};
pub use underlay::Underlay;

/// The network configuration of demo and benchmark.
pub const CONFIG: &str = r#"{"Network": "10.0.0.0/16", "SubnetLen": 24, "SubnetMin": "10.0.1.0", "SubnetMax": "10.0.20.0", "Backend": {"Type": "udp"}}"#;
