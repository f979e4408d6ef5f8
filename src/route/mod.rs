//! Prefixes, next hops, and the route table that the control thread writes and the packet threads
//! read.
//!
//! This module knows no sockets, clocks or threads. The table is tested against a simple model, and
//! under `loom` in every interleaving of its writer with its readers.

mod cidr;
mod hosts;
mod peers;
mod sync;
mod table;
mod verdicts;

pub use cidr::{Cidr, ParseCidrError, ipv4};
pub use peers::{PeerEntry, PeerIndex};
pub use table::{NextHop, Route, RouteError, RouteTable, RouteWriter, table};
pub use verdicts::{HopQuestions, HopVerdicts, Withheld};
