//! tinc 1.0 in its default mode, `router`, with larger socket buffers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::others;
use crate::lab::process::LabProcess;
use crate::lab::topology::{Lab, kernel_subnet};
use crate::lab::{LabError, interrupt, ping, tool};
use crate::sys::process::Signal;

pub(super) const DEVICE: &str = "tinc0";

/// The MTU of its device, which its documentation leaves at the default: tinc clamps the segment size of TCP to
/// the path MTU that it has found, and answers what is too large with ICMP errors.
pub(super) const MTU: u32 = 1500;

/// Host configuration for packets in plain text.
pub(super) const PLAIN: &str = "Cipher = none\nDigest = none\n";

/// Makes the keys and the configuration, with `more` for every host; returns the command for each host.
pub(super) fn configure(lab: &Lab, more: &str) -> Result<Vec<Command>, LabError> {
    let directory = |number: usize| lab.host(number).directory().join("tinc");
    let file = |at: usize, of: usize| directory(at).join("hosts").join(lab.host(of).name());
    let write =
        |path: PathBuf, text: String| fs::write(&path, text).map_err(|e| LabError::file(path, e));
    for (number, host) in lab.hosts().iter().enumerate() {
        let hosts = directory(number).join("hosts");
        fs::create_dir_all(&hosts).map_err(|e| LabError::file(&hosts, e))?;
        let mut config = format!(
            "Name = {}\nInterface = {DEVICE}\nAddressFamily = ipv4\n\
             UDPRcvBuf = {BUFFER}\nUDPSndBuf = {BUFFER}\n",
            host.name()
        );
        for (_, other) in others(lab, number) {
            config += &format!("ConnectTo = {}\n", other.name());
        }
        write(directory(number).join("tinc.conf"), config)?;
        let (address, subnet) = (host.address(), kernel_subnet(number, 0).cidr());
        write(file(number, number), format!("Address = {address}\nSubnet = {subnet}\n{more}"))?;
        // Adds the public key to the host's file.
        let path = directory(number).display().to_string();
        tool::run("tincd", &["-c", &path, "--generate-keys=2048"])?;
    }
    for number in 0..lab.hosts().len() {
        for (other, _) in others(lab, number) {
            let (from, to) = (file(number, number), file(other, number));
            fs::copy(&from, &to).map_err(|e| LabError::file(to, e))?;
        }
    }
    let command = |number: usize| {
        let mut command = Command::new("tincd");
        let directory = directory(number);
        command.arg("-D").arg("-c").arg(&directory);
        command.arg(format!("--pidfile={}", directory.join("pid").display()));
        command
    };
    Ok((0..lab.hosts().len()).map(command).collect())
}

/// Waits until each host knows the path MTU to each other one. Until then larger packets take tinc's TCP connection.
pub(super) fn wait_for_path_mtu(lab: &Lab, processes: &mut [LabProcess]) -> Result<(), LabError> {
    let end = Instant::now() + PROBES_TIMEOUT;
    for (number, process) in processes.iter_mut().enumerate() {
        for (_, other) in others(lab, number) {
            ping::between(lab.host(number).container(), other.container(), PING_TIMEOUT)?;
            loop {
                // Its nodes, with the path MTU to each, into the log.
                process.signal(Signal::User2)?;
                interrupt::sleep(Duration::from_millis(300))?;
                let log = fs::read(process.log()).unwrap_or_default();
                if knows_path_mtu(&String::from_utf8_lossy(&log), other.name()) {
                    break;
                }
                if Instant::now() > end {
                    let what = format!("the path MTU of tinc to {}", other.name());
                    let (seconds, log) = (PROBES_TIMEOUT.as_secs(), process.last_lines());
                    return Err(LabError::NotReady { what, seconds, log });
                }
            }
        }
    }
    Ok(())
}

/// Whether the last `NODE at … pmtu N (min N max N)` of a log has found it.
fn knows_path_mtu(log: &str, node: &str) -> bool {
    let of_node = |line: &&str| {
        line.trim_start().strip_prefix(node).is_some_and(|rest| rest.starts_with(" at "))
    };
    let Some(line) = log.lines().rev().find(of_node) else { return false };
    let number = |word: &str| {
        let (_, rest) = line.split_once(word)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    };
    number("(min ").is_some_and(|least| least > 0 && Some(least) == number(" max "))
}

/// Bytes of each socket buffer; the kernel's own limit may be lower.
const BUFFER: u32 = 1 << 20;

/// tinc sends up to 30 probes, about one per second.
const PROBES_TIMEOUT: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_mtu_is_known_once_its_bounds_meet() {
        let line = |least: u32, most: u32| {
            format!(" node2 at 10.0.0.2 port 655 options c pmtu {most} (min {least} max {most})\n")
        };
        let mine = " node1 at MYSELF port 655 options c pmtu 1518 (min 0 max 1518)\n";
        let log = [mine, &line(1363, 1518), mine].concat();
        assert!(!knows_path_mtu(&log, "node2"));
        assert!(knows_path_mtu(&[&log, &line(1451, 1451), mine].concat(), "node2"));
        assert!(!knows_path_mtu(&line(0, 0), "node2"));
        assert!(!knows_path_mtu(mine, "node2"));
    }
}
