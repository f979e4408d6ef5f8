//! Filters of system calls, by `seccomp(2)`.
//!
//! A filter of `seccompiler` has one action for all calls that match it, so each action is a filter of
//! its own; the kernel runs all filters of a thread and applies the most restrictive action. Linux 5.11
//! and later cache the calls that are allowed whatever their arguments are, such as those that carry
//! packets: such a call costs the test of one bit, however many filters there are.

use std::collections::BTreeMap;
use std::io;

use crate::sys::seccomp::{self, Instruction};

/// Filters that are installed together.
#[derive(Clone)]
pub(super) struct Filters(Vec<Vec<Instruction>>);

impl Filters {
    /// Installs them for the calling thread.
    pub(super) fn install(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|program| seccomp::install(program))
    }
}

impl std::fmt::Debug for Filters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(Vec::len)).finish()
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
pub(super) fn compile() -> Result<(Filters, Filters), String> {
    let _ = (BTreeMap::<i64, ()>::new(), Filters(vec![]));
    Err(format!("there are no filters for {}", std::env::consts::ARCH))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
pub(super) use supported::compile;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod supported {
    use seccompiler::SeccompAction::{Allow, Errno, KillProcess};
    use seccompiler::SeccompCmpArgLen::Dword;
    use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
    use seccompiler::{
        BpfProgram, Error, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    use super::super::syscalls::{
        Call, FAMILIES, FATAL, FATAL_TO_WORKERS, NAMESPACES, REFUSED, WORKER, WORKER_MEMORY,
    };
    use super::{BTreeMap, Filters, Instruction};

    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// The filters of the process, and those that a worker has in addition.
    pub(in super::super) fn compile() -> Result<(Filters, Filters), String> {
        let filters = || -> Result<_, Error> { Ok((process()?, worker()?)) };
        filters().map_err(|error| error.to_string())
    }

    fn process() -> Result<Filters, Error> {
        let mut refused = listed(REFUSED);
        let other_family =
            FAMILIES.iter().map(|family| condition(0, Ne, *family)).collect::<Result<Vec<_>, _>>();
        refused.insert(libc::SYS_socket, vec![SeccompRule::new(other_family?)?]);
        let namespaces = NAMESPACES.iter().map(|flag| rule(0, MaskedEq(flags(*flag)), *flag));
        refused.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
        // The flags of clone3 are in memory, which filters cannot read. After ENOSYS the C library uses clone.
        let clone3 = Rules::from([(libc::SYS_clone3, vec![])]);
        Ok(Filters(vec![
            filter(clone3, Allow, Errno(libc::ENOSYS as u32))?,
            filter(refused, Allow, Errno(libc::EPERM as u32))?,
            filter(listed(FATAL), Allow, KillProcess)?,
        ]))
    }

    fn worker() -> Result<Filters, Error> {
        let mut allowed: Rules = WORKER
            .iter()
            .flat_map(|(_, calls)| calls.iter())
            .map(|call| (call.0, vec![]))
            .collect();
        for (call, _) in WORKER_MEMORY {
            let not_executable = rule(2, MaskedEq(flags(libc::PROT_EXEC)), 0)?;
            allowed.insert(*call, vec![not_executable]);
        }
        // For abort(3), so that a crash ends with SIGABRT.
        let own = SeccompRule::new(vec![
            condition(0, Eq, std::process::id() as libc::c_int)?,
            condition(2, Eq, libc::SIGABRT)?,
        ])?;
        allowed.insert(libc::SYS_tgkill, vec![own]);
        Ok(Filters(vec![
            filter(listed(FATAL_TO_WORKERS), Allow, KillProcess)?,
            // This filter is the last one, because it refuses to install another.
            filter(allowed, Errno(libc::EPERM as u32), Allow)?,
        ]))
    }

    /// Rules that match these calls, whatever their arguments are.
    fn listed(calls: &[Call]) -> Rules {
        let mut rules: Rules = calls.iter().map(|(number, _)| (*number, vec![])).collect();
        if cfg!(target_arch = "x86_64") {
            // The same calls of programs with 32-bit pointers, `arch/x86/entry/syscalls/syscall_64.tbl`.
            rules.extend(calls.iter().map(|(number, _)| (number | X32, vec![])));
            let renumbered =
                X32_NUMBERS.iter().filter(|(name, _)| calls.iter().any(|c| c.1 == *name));
            rules.extend(renumbered.map(|(_, number)| (number | X32, vec![])));
        }
        rules
    }

    fn filter(
        rules: Rules,
        mismatch: SeccompAction,
        matched: SeccompAction,
    ) -> Result<Vec<Instruction>, Error> {
        let arch = std::env::consts::ARCH.try_into()?;
        let program: BpfProgram = SeccompFilter::new(rules, mismatch, matched, arch)?.try_into()?;
        let ours =
            |i: &seccompiler::sock_filter| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
        Ok(program.iter().map(ours).collect())
    }

    fn rule(argument: u8, op: SeccompCmpOp, value: libc::c_int) -> Result<SeccompRule, Error> {
        Ok(SeccompRule::new(vec![condition(argument, op, value)?])?)
    }

    fn condition(
        argument: u8,
        op: SeccompCmpOp,
        value: libc::c_int,
    ) -> Result<SeccompCondition, Error> {
        Ok(SeccompCondition::new(argument, Dword, op, flags(value))?)
    }

    fn flags(value: libc::c_int) -> u64 {
        u64::from(value as u32)
    }

    /// `__X32_SYSCALL_BIT`.
    const X32: i64 = 0x4000_0000;
    /// Calls that have a number of their own there.
    const X32_NUMBERS: [(&str, i64); 6] = [
        ("SYS_execve", 520),
        ("SYS_ptrace", 521),
        ("SYS_kexec_load", 528),
        ("SYS_process_vm_readv", 539),
        ("SYS_process_vm_writev", 540),
        ("SYS_execveat", 545),
    ];
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod tests {
    use super::*;

    /// What the kernel would do with a call: the severest answer of all filters
    /// (`seccomp_run_filters` of `kernel/seccomp.c`).
    fn answer(filters: &[&Filters], number: i64, args: [u64; 6]) -> u32 {
        let programs = filters.iter().flat_map(|filters| filters.0.iter());
        programs
            .map(|program| run(program, number, args))
            .min_by_key(|answer| (answer & libc::SECCOMP_RET_ACTION_FULL) as i32)
            .unwrap()
    }

    /// The instructions that these programs use, over a `struct seccomp_data`.
    fn run(program: &[Instruction], number: i64, args: [u64; 6]) -> u32 {
        let arch = match std::env::consts::ARCH {
            "x86_64" => 0xc000_003e_u32,
            "aarch64" => 0xc000_00b7,
            _ => 0xc000_00f3,
        };
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&(number as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (slot, arg) in data[16..].chunks_exact_mut(8).zip(args) {
            slot.copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut at, mut a) = (0, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let mut jump = |taken: bool| at += usize::from(if taken { jt } else { jf });
            match u32::from(code) {
                0x20 => {
                    let k = k as usize;
                    a = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
                }
                0x05 => at += k as usize,
                0x06 => return k,
                0x15 => jump(a == k),
                0x25 => jump(a > k),
                0x35 => jump(a >= k),
                0x54 => a &= k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    #[test]
    fn what_the_filters_answer() {
        let (process, worker) = compile().unwrap();
        let exec = libc::PROT_READ as u64 | libc::PROT_EXEC as u64;
        let data = libc::PROT_READ as u64 | libc::PROT_WRITE as u64;
        let pid = u64::from(std::process::id());
        let (abort, kill) = (libc::SIGABRT as u64, libc::SIGKILL as u64);
        let family = |family: libc::c_int| [family as u64, 0, 0, 0, 0, 0];
        let flags = |flags: libc::c_int| [flags as u64, 0, 0, 0, 0, 0];
        let none = [0; 6];
        for (number, args, control, captured) in [
            (libc::SYS_read, none, ALLOW, ALLOW),
            (libc::SYS_sendmmsg, none, ALLOW, ALLOW),
            (libc::SYS_mmap, [0, 4096, data, 0, 0, 0], ALLOW, ALLOW),
            (libc::SYS_mmap, [0, 4096, exec, 0, 0, 0], ALLOW, REFUSE),
            (libc::SYS_mprotect, [0, 4096, exec, 0, 0, 0], ALLOW, REFUSE),
            (libc::SYS_tgkill, [pid, 1, abort, 0, 0, 0], ALLOW, ALLOW),
            (libc::SYS_tgkill, [pid, 1, kill, 0, 0, 0], ALLOW, REFUSE),
            (libc::SYS_tgkill, [pid + 1, 1, abort, 0, 0, 0], ALLOW, REFUSE),
            (libc::SYS_openat, none, ALLOW, REFUSE),
            (libc::SYS_ioctl, none, ALLOW, REFUSE),
            (libc::SYS_socket, family(libc::AF_INET), ALLOW, REFUSE),
            (libc::SYS_socket, family(libc::AF_NETLINK), ALLOW, REFUSE),
            (libc::SYS_socket, family(libc::AF_PACKET), REFUSE, REFUSE),
            (libc::SYS_socket, family(libc::AF_VSOCK), REFUSE, REFUSE),
            (libc::SYS_clone, flags(libc::CLONE_VM | libc::CLONE_THREAD), ALLOW, REFUSE),
            (libc::SYS_clone, flags(libc::CLONE_NEWUSER), REFUSE, REFUSE),
            (libc::SYS_clone, flags(libc::CLONE_VM | libc::CLONE_NEWNET), REFUSE, REFUSE),
            (libc::SYS_bpf, none, REFUSE, REFUSE),
            (libc::SYS_io_uring_setup, none, REFUSE, REFUSE),
            (libc::SYS_execve, none, ALLOW, KILL),
            (libc::SYS_ptrace, none, KILL, KILL),
            (libc::SYS_mount, none, KILL, KILL),
            (libc::SYS_setns, none, KILL, KILL),
        ] {
            assert_eq!(answer(&[&process], number, args), control, "control: {number} {args:?}");
            let both = answer(&[&process, &worker], number, args);
            assert_eq!(both, captured, "worker: {number} {args:?}");
        }
        let clone3 = answer(&[&process], libc::SYS_clone3, none);
        assert_eq!(clone3, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn other_numbers_of_the_same_calls() {
        let (process, worker) = compile().unwrap();
        let x32 = |number: i64| number | 0x4000_0000;
        for number in [x32(libc::SYS_mount), x32(521), x32(libc::SYS_setns)] {
            assert_eq!(answer(&[&process], number, [0; 6]), KILL, "{number:#x}");
        }
        assert_eq!(answer(&[&process, &worker], x32(520), [0; 6]), KILL);
        assert_eq!(answer(&[&process, &worker], x32(libc::SYS_read), [0; 6]), REFUSE);
    }
}
