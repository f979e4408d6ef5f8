//! Command line, wiring and exit codes.

pub mod capture;
pub mod commands;
pub mod inspect;
pub mod leases;
mod parse;
mod run;
pub mod tools;
#[cfg(feature = "top")]
pub mod top;

pub use crate::daemon::Options;
pub use crate::exit::{Code, Exit};
pub use commands::Command;
pub use parse::{clap_command, parse, parse_from};
pub use run::run;
