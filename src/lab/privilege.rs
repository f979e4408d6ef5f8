//! The privilege to create networks: as root, or in an unprivileged user namespace.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{LabError, tool};
use crate::sys::netns::Netns;
use crate::sys::process::effective_user;

/// Where the privileges of this process come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The process may create network namespaces in the initial user namespace.
    Root,
    /// The process is root in a user namespace of its own.
    UserNamespace,
}

/// Whether this process may build a lab. The error lists everything that is missing, one item per line.
pub fn have() -> Result<Privilege, String> {
    let mut missing = Vec::new();
    if let Err(e) = Netns::anonymous() {
        let user = effective_user();
        missing.push(format!("creating a network namespace as user {user}: {e}"));
    }
    if let Err(e) = tun_device() {
        missing.push(e);
    }
    let directory = "/run/netns";
    if let Err(e) = fs::create_dir_all(directory).and_then(|()| {
        let probe = format!("{directory}/.fu{}", std::process::id());
        File::create(&probe).and_then(|_| fs::remove_file(&probe))
    }) {
        missing.push(format!("writing to {directory}, where named namespaces are mounted: {e}"));
    }
    match (missing.is_empty(), std::env::var_os(MARK).is_some()) {
        (true, true) => Ok(Privilege::UserNamespace),
        (true, false) => Ok(Privilege::Root),
        (false, _) => Err(missing.join("\n")),
    }
}

/// Ensures that this process may build a lab. If it may not, this replaces the process by one with the
/// same arguments in a user namespace, and does not return.
pub fn ensure() -> Result<Privilege, LabError> {
    let lacking = match have() {
        Ok(privilege) => return Ok(privilege),
        Err(lacking) => lacking,
    };
    if std::env::var_os(MARK).is_some() {
        return Err(LabError::Privilege(format!("inside a user namespace: {lacking}")));
    }
    match rerun_in_user_namespace() {
        Ok(never) => match never {},
        Err(why_not) => {
            Err(LabError::Privilege(format!("as root: {lacking}\nin a user namespace: {why_not}")))
        }
    }
}

fn rerun_in_user_namespace() -> Result<Infallible, String> {
    tun_device()?;
    let tried = Command::new("unshare")
        .args(UNSHARE)
        .arg("true")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| tool::could_not_start("unshare", e).to_string())?;
    if !tried.status.success() {
        let errors = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        let hints: Vec<&str> = SWITCHES
            .iter()
            .filter(|(file, bad, _)| fs::read_to_string(file).is_ok_and(|v| v.trim() == *bad))
            .map(|(_, _, hint)| *hint)
            .collect();
        return Err(format!("{errors} {}", hints.join("; ")));
    }
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let error = Command::new("unshare")
        .args(UNSHARE)
        .args(["sh", "-c", r#"mount -t tmpfs tmpfs /run && exec "$0" "$@""#])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error.to_string())
}

fn tun_device() -> Result<(), String> {
    let opened = File::options().read(true).write(true).open(TUN);
    opened.map(drop).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("{TUN} does not exist (modprobe tun)"),
        io::ErrorKind::PermissionDenied => {
            format!("no permission to open {TUN} (chmod 666 {TUN} is safe: creating a device needs further privileges)")
        }
        _ => format!("{TUN}: {e}"),
    })
}

/// Sysctls that forbid user namespaces, the value that forbids them, and the remedy.
const SWITCHES: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "(sysctl kernel.unprivileged_userns_clone=1 allows it)",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "(sysctl kernel.apparmor_restrict_unprivileged_userns=0 allows it)",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "(sysctl user.max_user_namespaces=1000 allows it)"),
];

const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];

/// Environment variable that marks a process in its own user namespace.
const MARK: &str = "FLANNEL_UDP_USER_NAMESPACE";

const TUN: &str = "/dev/net/tun";
