//! `seccomp(2)`: a filter for the calling thread and what is started from it.

use std::io;

use super::check;

/// One instruction of a filter, as the kernel takes it (`include/uapi/linux/filter.h`).
pub use libc::sock_filter as Instruction;

/// Puts `program` in force for the calling thread, on top of the filters that it has. What it
/// refuses goes to the audit log, from Linux 4.14 on. `no_new_privs` must be set.
///
/// # Errors
/// `EINVAL` for a program the kernel refuses or a kernel without filters, `EACCES` without
/// `no_new_privs`, `ENOMEM` when all filters together are too long.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    match set_filter(program, libc::SECCOMP_FILTER_FLAG_LOG) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set_filter(program, 0),
        outcome => outcome,
    }
}

fn set_filter(program: &[Instruction], flags: libc::c_ulong) -> io::Result<()> {
    let Ok(len) = libc::c_ushort::try_from(program.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the filter is too long"));
    };
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions from `filter`, which borrows a slice of that
    // length for the call, and writes to neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const program,
        )
    };
    check(result as _)?;
    Ok(())
}
