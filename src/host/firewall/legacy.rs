//! The tables of legacy iptables, which the kernel makes for whoever asks for one: an empty table, which then
//! stays and is passed by every packet.

/// Whether this network namespace has `table`, so that listing it does not make it. The kernel lists the tables
/// that exist in `ip_tables_names` (`net/netfilter/x_tables.c`), a file that is missing until the first one. A
/// table counts as there if this process may not read the list.
pub(crate) fn has_table(table: &str) -> bool {
    match std::fs::read_to_string("/proc/thread-self/net/ip_tables_names") {
        Ok(names) => names.lines().any(|line| line == table),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}
