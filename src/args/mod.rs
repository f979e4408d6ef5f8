//! Flags and values that several commands share, each declared once.
//!
//! The daemon, `doctor` and the commands embed the structs of [`store`], [`socket`] and [`subnet_file`] with clap's
//! `flatten`. [`go_flags`] and [`go_values`] read flags as Go's `flag` package does, for the flags of flanneld.

pub mod go_flags;
pub mod go_values;
mod local_store;
mod log_filter;
pub mod socket;
pub mod store;
pub mod subnet_file;
mod unit_settings;
pub mod values;

pub use local_store::{LocalStore, LocalStoreArgs};
pub use log_filter::{checked_log_filter, log_filter};
pub use socket::{ListenPath, QueryArgs, SocketArgs};
pub use store::StoreArgs;
pub use subnet_file::SubnetFileArgs;
