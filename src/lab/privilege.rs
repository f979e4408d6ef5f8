//! The right to make networks: root has it, or an unprivileged user namespace gives it.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{LabError, tool};
use crate::sys::netns::Netns;
use crate::sys::process::effective_user;

/// How the lab came to its rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The process may make network namespaces in the machine's own user namespace.
    Root,
    /// It is root in a user namespace of its own.
    UserNamespace,
}

/// Says whether this process may build a lab as it is, or everything that is missing, one reason a
/// line.
pub fn have() -> Result<Privilege, String> {
    let mut missing = Vec::new();
    if let Err(e) = Netns::anonymous() {
        let user = effective_user();
        missing.push(format!("making a network namespace as user {user}: {e}"));
    }
    if let Err(e) = tun_device() {
        missing.push(e);
    }
    let directory = "/run/netns";
    if let Err(e) = fs::create_dir_all(directory).and_then(|()| {
        let probe = format!("{directory}/.fu{}", std::process::id());
        File::create(&probe).and_then(|_| fs::remove_file(&probe))
    }) {
        missing.push(format!("writing to {directory}, where namespaces get their names: {e}"));
    }
    match (missing.is_empty(), std::env::var_os(MARK).is_some()) {
        (true, true) => Ok(Privilege::UserNamespace),
        (true, false) => Ok(Privilege::Root),
        (false, _) => Err(missing.join("\n")),
    }
}

/// Makes sure that this process may build a lab. Where it may not, it is run again in a user
/// namespace, with the same arguments, and this call does not return.
pub fn ensure() -> Result<Privilege, LabError> {
    let lacking = match have() {
        Ok(privilege) => return Ok(privilege),
        Err(lacking) => lacking,
    };
    if std::env::var_os(MARK).is_some() {
        return Err(LabError::Privilege(format!("inside a user namespace: {lacking}")));
    }
    match again_in_user_namespace() {
        Ok(never) => match never {},
        Err(why_not) => {
            Err(LabError::Privilege(format!("as root: {lacking}\nin a user namespace: {why_not}")))
        }
    }
}

fn again_in_user_namespace() -> Result<Infallible, String> {
    tun_device()?;
    let tried = Command::new("unshare")
        .args(UNSHARE)
        .arg("true")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| tool::could_not_start("unshare", e).to_string())?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        let hints: Vec<&str> = SWITCHES
            .iter()
            .filter(|(file, bad, _)| fs::read_to_string(file).is_ok_and(|v| v.trim() == *bad))
            .map(|(_, _, hint)| *hint)
            .collect();
        return Err(format!("{said} {}", hints.join("; ")));
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
        io::ErrorKind::NotFound => format!("{TUN} is not there (modprobe tun)"),
        io::ErrorKind::PermissionDenied => {
            format!("{TUN} may not be opened (chmod 666 {TUN} is safe: devices need rights of their own)")
        }
        _ => format!("{TUN}: {e}"),
    })
}

/// Files of the kernel that forbid user namespaces, the value that does, and the way out.
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

/// Set in the environment of the second run.
const MARK: &str = "FLANNEL_UDP_USER_NAMESPACE";

const TUN: &str = "/dev/net/tun";
