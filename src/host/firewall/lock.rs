//! The xtables lock, which serialises the iptables programs of a host; `-w` waits for it.

use std::os::unix::fs::MetadataExt;

/// The file whose lock iptables takes, `XTABLES_LOCKFILE` in the environment or else iptables' own.
pub(super) fn file() -> std::path::PathBuf {
    std::env::var_os("XTABLES_LOCKFILE").unwrap_or_else(|| "/run/xtables.lock".into()).into()
}

/// Describes the process that holds the lock, from `/proc/locks`; `None` if no other process does.
pub(super) fn holder() -> Option<String> {
    let inode = std::fs::metadata(file()).ok()?.ino();
    let pid = holder_in(&std::fs::read_to_string("/proc/locks").ok()?, inode)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", name.trim()))
}

/// Finds the holder of a file's lock in the text of `proc_locks(5)`; lines with an arrow are of those that wait.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        let held: u64 = file.rsplit(':').next()?.parse().ok()?;
        (held == inode).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_among_those_who_wait() {
        let locks = "1: POSIX  ADVISORY  WRITE 9 fe:00:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 5 00:18:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 6 00:18:78 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 7 00:18:77 0 EOF\n";
        assert_eq!(holder_in(locks, 77), Some(7));
        assert_eq!(holder_in(locks, 79), None);
        assert_eq!(holder_in("nonsense", 77), None);
    }
}
