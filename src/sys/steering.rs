//! A steering program: the kernel runs it to choose the queue of a TUN device for each packet (`bpf(2)`,
//! `TUNSETSTEERINGEBPF` of `include/uapi/linux/if_tun.h`, Linux 4.16).
//!
//! Without a program the kernel moves a flow to the queue on which its replies were written, so that
//! packets in the old queue are overtaken (`tun_flow_update` of `drivers/net/tun.c`). The program uses
//! the packet's header alone: addresses and ports of TCP, addresses and protocol of everything else, so
//! that the fragments of a flow stay in the queue of its other packets. It can also give TCP a queue of
//! its own: a bulk flow fills its queue, because a TUN device never slows a flow down, and interactive
//! packets would wait behind it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use super::check;
use super::tun::TunQueue;

/// Which packets the kernel puts into which queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// Every packet: a hash of its header chooses one of all queues.
    Mixed,
    /// Of each pair of queues the second holds TCP and the first everything else; the hash chooses the
    /// pair.
    TcpApart,
    /// [`Self::TcpApart`] with one pair, which needs no hash.
    OnePair,
}

impl Lanes {
    const ALL: [Self; 3] = [Self::Mixed, Self::TcpApart, Self::OnePair];

    /// Whether the queues come in pairs.
    pub fn has_pairs(self) -> bool {
        self != Self::Mixed
    }
}

/// Makes the kernel choose the queues of the device to which `queue` belongs by each packet's header.
///
/// # Errors
/// `EPERM` without `CAP_BPF` (as in a user namespace), `ENOSYS` without `bpf(2)`, `EINVAL` before Linux
/// 4.16. Nothing is changed then.
pub fn by_header(queue: &TunQueue, lanes: Lanes) -> io::Result<()> {
    let fd: libc::c_int = match loaded(lanes) {
        Ok(program) => program.as_raw_fd(),
        Err(error) => {
            return Err(error
                .raw_os_error()
                .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error));
        }
    };
    // SAFETY: the request reads one `int`, which `fd` is, alive for the call.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETSTEERINGEBPF as _, &raw const fd) }
        as _)?;
    Ok(())
}

/// Loads the programs, for [`by_header`] to use after the process has dropped the capability.
pub fn prepare() {
    // An error is kept, and returned by `by_header`.
    for lanes in Lanes::ALL {
        let _ = loaded(lanes);
    }
}

/// Loads each program once: when a device is created again, the process has no capability to load it.
fn loaded(lanes: Lanes) -> &'static io::Result<OwnedFd> {
    static LOADED: [OnceLock<io::Result<OwnedFd>>; Lanes::ALL.len()] =
        [const { OnceLock::new() }; _];
    LOADED[lanes as usize].get_or_init(|| match lanes {
        Lanes::Mixed => load(&[&HASH, &MIXED]),
        Lanes::TcpApart => load(&[&HASH, &TCP_APART]),
        Lanes::OnePair => load(&[&ONE_PAIR]),
    })
}

/// `union bpf_attr` of `include/uapi/linux/bpf.h`, as far as `BPF_PROG_LOAD` has always had it.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

fn load(parts: &[&[Instruction]]) -> io::Result<OwnedFd> {
    let program = parts.concat();
    let license = c"Apache-2.0";
    let request = ProgramLoad {
        kind: SOCKET_FILTER,
        count: program.len() as u32,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        ..ProgramLoad::default()
    };
    // SAFETY: BPF_PROG_LOAD reads as many bytes of the attributes as the size says, and the instructions
    // and the license, which both outlive the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const request,
            size_of::<ProgramLoad>() as libc::c_uint,
        )
    } as _)?;
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low half of the byte, source in the high one; the other way round on
    /// machines whose compilers fill bit fields from the top.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: u32) -> Instruction {
    let registers = if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
    Instruction { code, registers, offset, immediate: immediate as i32 }
}

/// Registers: R6 the packet, R7 the hash, R8 the length of the IPv4 header, R9 the protocol, R0 what was
/// loaded. A packet that is too short for a load goes to the first queue.
static HASH: [Instruction; 21] = [
    op(MOVE, 6, 1, 0, 0),
    op(LOAD_WORD, 0, 0, 0, 12), // source
    op(MOVE, 7, 0, 0, 0),
    op(LOAD_WORD, 0, 0, 0, 16), // destination
    op(MULTIPLY, 0, 0, 0, 0x85eb_ca6b),
    op(XOR, 7, 0, 0, 0),
    op(LOAD_BYTE, 0, 0, 0, 9), // protocol
    op(MOVE, 9, 0, 0, 0),
    op(ADD, 7, 0, 0, 0),
    op(JUMP_UNLESS_EQUAL, 0, 0, 9, libc::IPPROTO_TCP as u32),
    op(LOAD_HALF, 0, 0, 0, 6), // flags and fragment offset
    op(JUMP_IF_ANY, 0, 0, 7, 0x3fff),
    op(LOAD_BYTE, 0, 0, 0, 0), // version and header length
    op(AND, 0, 0, 0, 0x0f),
    op(SHIFT_LEFT, 0, 0, 0, 2),
    op(MOVE, 8, 0, 0, 0),
    op(LOAD_WORD_AT, 0, 8, 0, 0), // both ports
    op(MULTIPLY, 0, 0, 0, 0xc2b2_ae35),
    op(XOR, 7, 0, 0, 0),
    op(MULTIPLY, 7, 0, 0, 0x9e37_79b1),
    op(SHIFT_RIGHT, 7, 0, 0, 16),
];

/// The kernel takes the result modulo the number of queues.
static MIXED: [Instruction; 2] = [op(MOVE, 0, 7, 0, 0), op(EXIT, 0, 0, 0, 0)];

static TCP_APART: [Instruction; 5] = [
    op(SHIFT_LEFT, 7, 0, 0, 1),
    op(MOVE, 0, 7, 0, 0),
    op(JUMP_UNLESS_EQUAL, 9, 0, 1, libc::IPPROTO_TCP as u32),
    op(OR, 0, 0, 0, 1),
    op(EXIT, 0, 0, 0, 0),
];

static ONE_PAIR: [Instruction; 7] = [
    op(MOVE, 6, 1, 0, 0),
    op(LOAD_BYTE, 0, 0, 0, 9), // protocol
    op(MOVE, 7, 0, 0, 0),
    op(AND, 0, 0, 0, 0),
    op(JUMP_UNLESS_EQUAL, 7, 0, 1, libc::IPPROTO_TCP as u32),
    op(OR, 0, 0, 0, 1),
    op(EXIT, 0, 0, 0, 0),
];

// Codes of `include/uapi/linux/bpf.h` and `bpf_common.h`: class, operation, source of the operand.
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x0c;
const XOR: u8 = 0xac;
const AND: u8 = 0x54;
const OR: u8 = 0x44;
const MULTIPLY: u8 = 0x24;
const SHIFT_LEFT: u8 = 0x64;
const SHIFT_RIGHT: u8 = 0x74;
const LOAD_WORD: u8 = 0x20;
const LOAD_HALF: u8 = 0x28;
const LOAD_BYTE: u8 = 0x30;
const LOAD_WORD_AT: u8 = 0x40;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_IF_ANY: u8 = 0x45;
const EXIT: u8 = 0x95;

const PROG_LOAD: libc::c_int = 5;
const SOCKET_FILTER: u32 = 1;
