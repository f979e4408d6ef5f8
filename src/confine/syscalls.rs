//! The system calls that are allowed, refused and fatal.
//!
//! `docs/hardening.md` shows the same lists; a test compares them.

/// A system call: its number and its name.
pub(super) type Call = (i64, &'static str);

macro_rules! calls {
    ($($(#[$only:meta])* $call:ident)*) => {
        &[$($(#[$only])* (numbers::$call, stringify!($call)),)*]
    };
}

/// The calls' numbers: those of `libc`, and one that it lacks.
mod numbers {
    pub(super) use libc::*;

    /// `include/uapi/asm-generic/unistd.h`.
    #[cfg(all(target_arch = "aarch64", target_env = "musl"))]
    #[allow(non_upper_case_globals, reason = "the name of libc")]
    pub(super) const SYS_kexec_file_load: c_long = 294;
}

/// Calls that a thread that carries packets may make, by purpose. All others are refused.
pub(super) const WORKER: [(&str, &[Call]); 5] = [
    (
        "packets",
        calls! {
            SYS_read SYS_readv SYS_write SYS_writev
            SYS_recvfrom SYS_recvmsg SYS_recvmmsg SYS_sendto SYS_sendmsg SYS_sendmmsg
        },
    ),
    (
        "waiting and waking others",
        calls! {
            #[cfg(target_arch = "x86_64")] SYS_epoll_wait
            SYS_epoll_pwait
            #[cfg(target_arch = "x86_64")] SYS_poll
            SYS_ppoll SYS_futex SYS_sched_yield SYS_nanosleep SYS_clock_nanosleep
            SYS_restart_syscall
        },
    ),
    ("time", calls! { SYS_clock_gettime SYS_gettimeofday }),
    ("memory that is not executable", calls! { SYS_mremap SYS_munmap SYS_madvise SYS_brk }),
    (
        "signals, the thread's own end",
        calls! {
            SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_getpid SYS_gettid
            SYS_sched_getaffinity SYS_getrandom SYS_membarrier SYS_set_robust_list SYS_rseq
            SYS_close SYS_exit SYS_exit_group
        },
    ),
];

/// Allowed to a worker unless they ask for executable memory (in the argument with index 2).
pub(super) const WORKER_MEMORY: &[Call] = calls! { SYS_mmap SYS_mprotect };

/// Refused to the whole process and to the programs that it starts: none of them needs these calls, and
/// a library that makes one incidentally copes with the refusal.
pub(super) const REFUSED: &[Call] = calls! {
    SYS_init_module SYS_finit_module SYS_delete_module
    SYS_bpf SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register
    SYS_memfd_create SYS_pidfd_getfd SYS_kcmp SYS_fanotify_init SYS_perf_event_open SYS_userfaultfd
    SYS_add_key SYS_request_key SYS_keyctl
    SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setgroups
    SYS_setfsuid SYS_setfsgid
    SYS_settimeofday SYS_clock_settime SYS_adjtimex SYS_clock_adjtime
    SYS_sethostname SYS_setdomainname SYS_syslog SYS_acct SYS_quotactl SYS_personality
};

/// Calls that only an attacker in control of the process makes: the kernel kills the process.
pub(super) const FATAL: &[Call] = calls! {
    SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev
    SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot
    SYS_move_mount SYS_open_tree SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick
    SYS_unshare SYS_setns SYS_open_by_handle_at
    SYS_kexec_load SYS_kexec_file_load SYS_reboot SYS_swapon SYS_swapoff
    #[cfg(target_arch = "x86_64")] SYS_iopl
    #[cfg(target_arch = "x86_64")] SYS_ioperm
};

/// Fatal to a worker in addition; the control thread starts programs with them.
pub(super) const FATAL_TO_WORKERS: &[Call] = calls! {
    SYS_execve SYS_execveat
    #[cfg(target_arch = "x86_64")] SYS_fork
    #[cfg(target_arch = "x86_64")] SYS_vfork
};

/// Socket families that the process and its programs use.
pub(super) const FAMILIES: [libc::c_int; 4] =
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Flags of `clone(2)` that create a namespace.
pub(super) const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    fn names(calls: &[Call]) -> String {
        let names: Vec<_> = calls
            .iter()
            .map(|(_, name)| format!("`{}`", name.trim_start_matches("SYS_")))
            .collect();
        names.join(", ")
    }

    #[test]
    fn the_document_has_the_lists() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hardening.md");
        let document = std::fs::read_to_string(file).unwrap();
        let mut rows: Vec<String> = WORKER
            .iter()
            .map(|(purpose, calls)| format!("| {purpose} | {} |", names(calls)))
            .collect();
        rows.push(format!("| without `PROT_EXEC` | {} |", names(WORKER_MEMORY)));
        rows.push(format!("| fatal | {} |", names(FATAL)));
        rows.push(format!("| fatal to a worker | {} |", names(FATAL_TO_WORKERS)));
        rows.push(format!("| refused | {} |", names(REFUSED)));
        for row in rows {
            assert!(document.contains(&row), "docs/hardening.md lacks this row:\n{row}");
        }
    }

    #[test]
    fn no_call_is_in_two_lists() {
        let mut all: Vec<_> = WORKER.iter().flat_map(|(_, calls)| calls.iter()).collect();
        all.extend(WORKER_MEMORY.iter().chain(REFUSED).chain(FATAL).chain(FATAL_TO_WORKERS));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
