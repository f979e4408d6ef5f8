//! Nebula, with the buffers of its example configuration and as many thread pairs as its documentation recommends
//! at most. Containers are reached as its guide for hosts behind a node says: `unsafe_routes`, and subnets in the
//! certificates.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use super::{endpoint, others};
use crate::lab::topology::{Lab, kernel_subnet};
use crate::lab::{LabError, tool};

pub(super) const DEVICE: &str = "nebula1";

/// `tun.mtu` is 1300 where the underlay has 1500, and 8800 on a path of 9000.
pub(super) const OVERHEAD: u32 = 200;

const PORT: u16 = 4242;

/// Makes the certificates and the configuration; returns the command for each host.
pub(super) fn configure(lab: &Lab, mtu: u32) -> Result<Vec<Command>, LabError> {
    let file = |name: &str| lab.directory().join(name).display().to_string();
    let authority = [file("ca.crt"), file("ca.key")];
    let [certificate, key] = &authority;
    let words = ["ca", "-name", "lab", "-out-crt", certificate, "-out-key", key];
    tool::run("nebula-cert", &words)?;
    (0..lab.hosts().len()).map(|number| host(lab, number, mtu, &authority)).collect()
}

fn host(
    lab: &Lab,
    number: usize,
    mtu: u32,
    [authority, authority_key]: &[String; 2],
) -> Result<Command, LabError> {
    let host = lab.host(number);
    let file = |name: &str| host.directory().join(name).display().to_string();
    let (certificate, key, path) = (file("node.crt"), file("node.key"), file("nebula.yml"));
    let subnet = kernel_subnet(number, mtu).cidr().to_string();
    let words = [
        ["sign", "-name", host.name(), "-ip", &format!("{}/24", address(number))],
        ["-subnets", &subnet, "-ca-crt", authority, "-ca-key"],
        [authority_key, "-out-crt", &certificate, "-out-key", &key],
    ];
    tool::run("nebula-cert", &words.concat())?;
    let (mut hosts, mut routes) = (String::new(), String::new());
    for (other, host) in others(lab, number) {
        let (via, subnet) = (address(other), kernel_subnet(other, mtu).cidr());
        hosts += &format!("  {via}: [\"{}\"]\n", endpoint(host.address(), PORT));
        routes += &format!("    - {{route: {subnet}, via: {via}, mtu: {mtu}}}\n");
    }
    // "The maximum recommended setting is half of the available CPU cores."
    let routines = (available_parallelism().map_or(1, usize::from) / 2).max(1);
    let config = format!(
        "pki: {{ca: {authority}, cert: {certificate}, key: {key}}}\n\
         static_host_map:\n{hosts}\
         lighthouse: {{am_lighthouse: false}}\n\
         listen: {{host: 0.0.0.0, port: {PORT}, batch: 64, read_buffer: 10485760, \
         write_buffer: 10485760}}\n\
         routines: {routines}\n\
         tun:\n  dev: {DEVICE}\n  tx_queue: 500\n  mtu: {mtu}\n  unsafe_routes:\n{routes}\
         firewall:\n  outbound: [{{port: any, proto: any, host: any}}]\n  \
         inbound: [{{port: any, proto: any, host: any}}]\n"
    );
    fs::write(&path, config).map_err(|e| LabError::file(&path, e))?;
    let mut command = Command::new("nebula");
    command.args(["-config", &path]);
    Ok(command)
}

/// The address of a host in its documentation's network.
fn address(number: usize) -> String {
    format!("192.168.100.{}", number + 1)
}
