//! The RPM package, installed, started, upgraded and erased with rpm(8) on one of the machines.
//!
//! Debian's rpm knows nothing of what dpkg has installed, so dependencies are not checked here.

use crate::leftovers::Contents;
use crate::machine::Machine;

/// What rpm calls the package on the machine.
const FILE: &str = "/var/cache/flannel-udp.rpm";

/// Installs it, calls `forwards` with the daemon running, before and after an upgrade, and erases it.
pub(crate) fn lives_its_life(machine: &Machine, options: &str, forwards: impl Fn()) {
    // Directories that are there wherever rpm is the package manager.
    machine.run("mkdir -p /usr/share/man/man8 /usr/share/licenses");
    let before = Contents::of(machine);
    machine.run(&format!("rpm --force-debian --nodeps --install {FILE}"));
    assert_eq!(machine.say("systemctl is-active flannel-udp").0, "inactive\n");
    machine.run("rpm --verify --nodeps flannel-udp");
    machine.run(&format!("printf '{options}' >>/etc/default/flannel-udp"));
    machine.run("systemctl start flannel-udp");
    forwards();
    let pid = "systemctl show -P MainPID flannel-udp";
    let (settings, old) = (machine.run("cat /etc/default/flannel-udp"), machine.run(pid));

    machine.run(&format!("rpm --force-debian --nodeps --upgrade --replacepkgs {FILE}"));
    assert_eq!(machine.run("cat /etc/default/flannel-udp"), settings);
    assert_ne!(machine.run(pid), old, "the daemon still runs the old program");
    forwards();

    machine.run("rpm --force-debian --erase flannel-udp");
    // Changed options are kept under another name, and leases in a directory outlive the package.
    machine
        .run("rm -r /etc/default/flannel-udp.rpmsave /root/.rpmdb && rmdir /var/lib/flannel-udp");
    Contents::of(machine).same_as(&before);
}

/// Brings the package to the machine.
pub(crate) fn bring(machine: &Machine, package: &std::path::Path) {
    std::fs::copy(package, machine.root().join(FILE.trim_start_matches('/'))).unwrap();
}
