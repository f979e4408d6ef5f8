//! WireGuard in user space, with its defaults: it has no options but the name of the device.

use std::process::Command;
use std::time::Duration;

use super::{endpoint, others};
use crate::lab::process::LabProcess;
use crate::lab::topology::{Lab, kernel_subnet};
use crate::lab::{LabError, tool};

pub(super) const DEVICE: &str = "wg0";

/// What `wg-quick` leaves below the MTU of the underlay, whatever IP version carries the datagrams.
pub(super) const OVERHEAD: u32 = 80;

/// The port in the examples of wg(8).
const PORT: u16 = 51820;

/// Starts it with a `/run` of its own: the path of its control socket has no room for the namespace.
pub(super) fn command() -> Command {
    let script = format!("mount -t tmpfs tmpfs /run && exec wireguard-go -f {DEVICE}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command
}

/// Makes the keys and tells each host about the others.
pub(super) fn connect(lab: &Lab, processes: &mut [LabProcess]) -> Result<(), LabError> {
    let key = |number: usize| lab.host(number).directory().join("key").display().to_string();
    let mut public = Vec::new();
    for number in 0..lab.hosts().len() {
        let script = "set -eu; umask 077; wg genkey > \"$0\"; wg pubkey < \"$0\"";
        public.push(tool::run("sh", &["-c", script, &key(number)])?.trim().to_owned());
    }
    for (number, process) in processes.iter_mut().enumerate() {
        let pid = process.pid().to_string();
        let wg = |words: &[&str]| {
            let inside = ["-t", &pid, "--mount", "--net", "wg"];
            tool::run("nsenter", &[&inside[..], words].concat())
        };
        process.wait_until(READY_TIMEOUT, || wg(&["show", DEVICE]).is_ok())?;
        let mut line = format!("set {DEVICE} listen-port {PORT} private-key {}", key(number));
        for (other, host) in others(lab, number) {
            let subnet = kernel_subnet(other, 0).cidr();
            let endpoint = endpoint(host.address(), PORT);
            let public = &public[other];
            line += &format!(" peer {public} allowed-ips {subnet} endpoint {endpoint}");
        }
        wg(&line.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

const READY_TIMEOUT: Duration = Duration::from_secs(5);
