//! Two or more hosts in network namespaces of one machine, for the demo, the benchmark and the tests.
//!
//! [`Lab`] creates the hosts, runs daemons and etcd on them, and removes everything on drop. [`traffic`]
//! has the generators, [`ping`] a ping that reports the TTL of the reply.

mod bench;
mod command;
mod daemon;
mod demo;
mod error;
mod etcd;
mod host;
pub mod interrupt;
mod janitor;
mod node;
pub mod ping;
mod privilege;
mod process;
mod scratch;
mod subnet;
pub mod tool;
mod topology;
pub mod traffic;
mod tunnels;
mod underlay;

pub use bench::BenchArgs;
pub use command::{LabCommand, run};
pub use daemon::{CONFIG, Daemon, DaemonOptions, StoreKind};
pub use demo::DemoArgs;
pub use error::LabError;
pub use etcd::{Etcd, PREFIX as ETCD_PREFIX};
pub use host::{BRIDGE, Container, LabHost};
pub use privilege::{Privilege, ensure as ensure_privilege, have as have_privilege};
pub use process::LabProcess;
pub use subnet::Subnet;
pub use topology::{Lab, LabBuilder, kernel_subnet};
pub use tunnels::Tunnel;
pub use underlay::UnderlayKind;
