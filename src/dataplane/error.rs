//! Why a data plane does not start.

use std::io;
use std::net::SocketAddrV4;

/// The reason why a data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `/dev/net/tun` cannot be opened.
    #[error(
        "cannot open /dev/net/tun: {0}: the tun module is not loaded or the device node is missing \
         (`modprobe tun`; `mknod /dev/net/tun c 10 200`)"
    )]
    NoTunDevice(io::Error),
    /// `/dev/net/tun` does not exist, and the process may not make it.
    #[error(
        "cannot open /dev/net/tun: the device node is missing and cannot be created: {0}: load the tun \
         module (`modprobe tun`); start a container with --device /dev/net/tun, or with CAP_MKNOD"
    )]
    NoTunNode(io::Error),
    /// A container may not use the device, whatever the mode of the node.
    #[error(
        "cannot open /dev/net/tun: {0}: the container's device rules or its file system (nodev) forbid it: \
         start the container with --device /dev/net/tun"
    )]
    TunForbidden(io::Error),
    /// The process may not open `/dev/net/tun`.
    #[error(
        "this user may not open /dev/net/tun: {0}: grant access to everyone (chmod 0666 /dev/net/tun is \
         safe: devices need CAP_NET_ADMIN) or to this user"
    )]
    NoTunAccess(io::Error),
    /// The process may not create a TUN device.
    #[error(
        "cannot create the TUN device {name}: {error}: CAP_NET_ADMIN is needed (run as root, or with \
         AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW in the unit)"
    )]
    NoTunPermission {
        /// The requested name.
        name: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The TUN device cannot be created.
    #[error("cannot create the TUN device {name}: {error}")]
    Tun {
        /// The requested name.
        name: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The TUN device does not accept its address or MTU.
    #[error("cannot set the address and MTU of the TUN device {name}: {error}")]
    Configure {
        /// The device.
        name: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The UDP port cannot be bound.
    #[error("cannot listen on UDP {address}: {error}")]
    Bind {
        /// The requested address and port.
        address: SocketAddrV4,
        /// The kernel's error.
        error: io::Error,
    },
    /// A thread, or what the thread waits on, cannot be created.
    #[error("cannot start a worker: {0}")]
    Thread(#[from] io::Error),
    /// [`ThreadInit`](super::ThreadInit) failed on a packet thread.
    #[error("cannot initialize packet thread {thread}: {error}")]
    ThreadInit {
        /// The thread's name.
        thread: String,
        /// The kernel's error.
        error: io::Error,
    },
}

impl StartError {
    /// Why [`crate::sys::tun::open_node`] failed.
    pub(super) fn node(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EACCES) => Self::NoTunAccess(error),
            Some(libc::EPERM) => Self::TunForbidden(error),
            _ => Self::NoTunDevice(error),
        }
    }

    pub(super) fn tun(name: &str, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Self::NoTunDevice(error),
            // `TUNSETIFF` says EPERM.
            Some(libc::EACCES) => Self::NoTunAccess(error),
            Some(libc::EPERM) => Self::NoTunPermission { name: name.to_owned(), error },
            _ => Self::Tun { name: name.to_owned(), error },
        }
    }
}
