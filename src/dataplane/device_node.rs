//! The device node `/dev/net/tun`, which is made if it is missing, as in a container that was started without
//! `--device`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::error::StartError;
use crate::sys::tun::{NODE, open_node};

/// `MISC_MAJOR` and `TUN_MINOR`: `include/uapi/linux/major.h`, `include/linux/miscdevice.h`.
const NUMBERS: (u32, u32) = (10, 200);

/// Checks that the device node can be opened; makes it, for this user alone, as the kernel's own `devtmpfs`
/// does, if it does not exist.
///
/// # Errors
/// The node cannot be opened, or is missing and cannot be made. Nothing is left behind.
pub(super) fn ensure() -> Result<(), StartError> {
    match open_node() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StartError::node(error)),
    }
    make().map_err(StartError::NoTunNode)?;
    open_node().map_err(|error| {
        // Of no use to anybody.
        let _ = fs::remove_file(NODE);
        match error.raw_os_error() {
            // The file system's `nodev`: the node's own mode allows it.
            Some(libc::EACCES) => StartError::TunForbidden(error),
            _ => StartError::node(error),
        }
    })?;
    tracing::info!("{NODE} was missing; created the device node");
    Ok(())
}

fn make() -> io::Result<()> {
    if let Some(directory) = Path::new(NODE).parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let (major, minor) = NUMBERS;
    let mode = Mode::RUSR | Mode::WUSR;
    match mknodat(CWD, NODE, FileType::CharacterDevice, mode, makedev(major, minor)) {
        // Another daemon was faster.
        Err(rustix::io::Errno::EXIST) => Ok(()),
        outcome => Ok(outcome?),
    }
}
