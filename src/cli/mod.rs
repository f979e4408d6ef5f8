//! Command line, wiring and exit codes.
