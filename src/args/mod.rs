//! What several commands share on the command line: Go's spellings and values.

pub mod go_flags;
pub mod go_values;
