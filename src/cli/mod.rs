//! Command line, wiring and exit codes.

pub mod capture;
pub mod commands;
pub mod daemon;
pub mod exit;
pub mod goflags;
pub mod inspect;
pub mod leases;
pub mod options;
mod parse;
mod run;
pub(crate) mod text;
pub mod tools;
#[cfg(feature = "top")]
pub mod top;
pub mod values;

pub use commands::Command;
pub use exit::{Code, Exit};
pub use options::Options;
pub use parse::{clap_command, parse, parse_from};
pub use run::run;
