//! Where a packet goes: prefixes, next hops and the table that control writes and workers read.

mod cidr;
mod peers;
mod sync;
mod table;

pub use cidr::{Cidr, ParseCidrError};
pub use peers::{PeerEntry, PeerIndex};
pub use table::{NextHop, Route, RouteError, RouteTable, RouteWriter, table};
