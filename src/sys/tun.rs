//! TUN queues: `Documentation/networking/tuntap.rst` and `drivers/net/tun.c` of the kernel.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;
use super::iovec::Gather;

/// Which segments the kernel may hand over without segmenting them, and whether checksums may be left to us:
/// the `TUN_F_*` bits of `TUNSETOFFLOAD` (`include/uapi/linux/if_tun.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// Checksums may be partial (`TUN_F_CSUM`); the others need it.
    pub csum: bool,
    /// TCP super-packets (`TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN`).
    pub tso: bool,
    /// UDP super-packets (`TUN_F_USO4 | TUN_F_USO6`, which the kernel takes only together).
    pub uso: bool,
}

impl Offload {
    fn bits(self) -> libc::c_uint {
        let mut bits = 0;
        if self.csum {
            bits |= libc::TUN_F_CSUM;
            if self.tso {
                bits |= libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
            }
            if self.uso {
                bits |= libc::TUN_F_USO4 | libc::TUN_F_USO6;
            }
        }
        bits
    }
}

/// One queue of a TUN device, non-blocking. Dropping the last one removes the device.
#[derive(Debug)]
pub struct TunQueue {
    file: File,
}

impl TunQueue {
    /// Attaches a queue to the device `name`, which is made if it does not exist; `%d` in the name
    /// is replaced by the first free number. Returns the queue and the device's name.
    ///
    /// # Errors
    /// As `open(2)` of `/dev/net/tun` and `TUNSETIFF`: no device node, no `CAP_NET_ADMIN`, a device
    /// of that name with other flags. `IFF_VNET_HDR` is a property of the device, not of the queue,
    /// and attaching with another value succeeds silently: that is found out and refused here.
    pub fn attach(name: &str, multi_queue: bool, vnet_hdr: bool) -> io::Result<(Self, String)> {
        let file = open_node()?;
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
        if multi_queue {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        if vnet_hdr {
            flags |= libc::IFF_VNET_HDR;
        }
        let mut request = ifreq(name)?;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is, alive for the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } as _)?;
        let got = get_flags(&file, &mut request)?;
        let compared = libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        if (got ^ flags) & compared != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} exists with other flags: {got:#x}, not {flags:#x}"),
            ));
        }
        Ok((Self { file }, device_name(&request)))
    }

    /// Tells the kernel what it may leave to us (`TUNSETOFFLOAD`). Holds for the whole device.
    ///
    /// # Errors
    /// `EINVAL` where the kernel does not know a bit; nothing is changed then.
    pub fn set_offload(&self, offload: Offload) -> io::Result<()> {
        let bits = libc::c_ulong::from(offload.bits());
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(self.as_raw_fd(), libc::TUNSETOFFLOAD, bits) } as _)?;
        Ok(())
    }

    /// Reads one packet, with its `virtio_net_hdr` if the device has one, into `buffer`.
    ///
    /// # Errors
    /// `EAGAIN` when the queue is empty or the link is down, `EBADFD` when the device is gone.
    /// A packet longer than `buffer` is cut silently by the kernel.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet, gathered from `parts`.
    ///
    /// # Errors
    /// `EIO` while the link is down, `EINVAL` for a packet or header the kernel refuses, `EBADFD`
    /// when the device is gone.
    #[inline]
    pub fn write(&self, parts: &Gather<'_, '_>) -> io::Result<usize> {
        let parts = parts.as_slice();
        // SAFETY: `Gather` holds that each of its iovecs points at bytes borrowed for as long as
        // itself; `writev` only reads them. The count is below `UIO_MAXIOV` by its construction.
        check(unsafe { libc::writev(self.as_raw_fd(), parts.as_ptr(), parts.len() as libc::c_int) })
    }
}

impl AsRawFd for TunQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The device node through which TUN devices are created.
pub const NODE: &str = "/dev/net/tun";

/// Opens the device node.
///
/// # Errors
/// `ENOENT` without the node, `ENXIO` or `ENODEV` without the driver, `EACCES` if its mode or its file system
/// does not allow it, `EPERM` if a container's device rules do not.
pub fn open_node() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(NODE)
}

/// Gives the device its address (a `/32`) and its MTU. It stays down.
///
/// # Errors
/// As the `SIOCSIF*` requests of `netdevice(7)`.
pub fn configure(queue: &TunQueue, name: &str, address: Ipv4Addr, mtu: u16) -> io::Result<()> {
    let mut config = tun::Configuration::default();
    let fd = queue.file.try_clone()?.into_raw_fd();
    config.tun_name(name).raw_fd(fd).address(address).mtu(mtu);
    let mut device = tun::create(&config).map_err(io::Error::other)?;
    tun::AbstractDevice::configure(&mut device, &config).map_err(io::Error::other)
}

/// Sets how many packets the device holds for a reader that is late (`SIOCSIFTXQLEN`).
///
/// # Errors
/// As `netdevice(7)`.
pub fn set_tx_queue_len(name: &str, packets: u16) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut request = ifreq(name)?;
    request.ifr_ifru.ifru_metric = packets.into();
    // SAFETY: SIOCSIFTXQLEN reads one `ifreq`, which `request` is, alive for the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN as _, &raw mut request) };
    check(result as _)?;
    Ok(())
}

fn get_flags(file: &File, request: &mut libc::ifreq) -> io::Result<libc::c_int> {
    // SAFETY: TUNGETIFF writes one `ifreq`, which `request` is, alive for the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF, &raw mut *request) } as _)?;
    // SAFETY: the kernel has just filled the flags member of the union; any bits are valid there.
    Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags } as u16))
}

/// An `ifreq` with the name filled in.
pub(super) fn ifreq(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is a C struct of integers and a union of plain data: all zeros is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= libc::IFNAMSIZ || name.as_bytes().contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{name:?} is not a valid interface name: it may have at most {} bytes",
                libc::IFNAMSIZ - 1
            ),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn device_name(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.map(|c| c as u8);
    CStr::from_bytes_until_nul(&bytes)
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
