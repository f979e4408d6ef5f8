//! Where a packet goes: prefixes, next hops and the table that control writes and workers read.

mod cidr;
mod table;

pub use cidr::{Cidr, ParseCidrError};
pub use table::{NextHop, RouteError, RouteTable, RouteWriter, table};
