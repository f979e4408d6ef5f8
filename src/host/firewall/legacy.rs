//! The tables of legacy iptables, which the kernel makes for whoever asks for one.

use std::io::ErrorKind;
use std::path::Path;

/// Whether listing `table` with this program would make it: an empty table, which then stays and is passed by
/// every packet. The kernel lists the tables that exist in `ip_tables_names` (`net/netfilter/x_tables.c`).
pub(super) fn would_make_table(program: &Path, table: &str) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    // The file is missing until the first table.
    match std::fs::read_to_string("/proc/thread-self/net/ip_tables_names") {
        _ if !name.contains("legacy") => false,
        Ok(names) => !names.lines().any(|line| line == table),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}
