//! The examples of the manual, as the package has installed it, do what they say.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::machine::Machine;

/// A host's own address, and the first three bytes of its subnet.
pub(crate) struct Node {
    pub(crate) address: Ipv4Addr,
    pub(crate) overlay: Ipv4Addr,
}

/// Runs every example on the first of two machines whose daemons run, and leaves the daemon running.
pub(crate) fn examples_work(machines: &[Machine; 2], nodes: &[Node; 2]) {
    let machine = &machines[0];
    // The container of the examples on the other host.
    let [a, b, c, _] = nodes[1].overlay.octets();
    machines[1].run(&format!("ip address add {a}.{b}.{c}.5/32 dev lo"));
    let lines = examples(machine);
    assert!(lines.len() >= 20, "only {} examples: {lines:?}", lines.len());
    let interface = format!("ip -oneline -4 addr show to {} | cut -d' ' -f2", nodes[0].address);
    let interface = machine.run(&interface);
    for line in &lines {
        if ELSEWHERE.iter().any(|command| line.starts_with(command)) {
            continue;
        }
        let line = on_these_hosts(line, nodes, interface.trim());
        let (said, done) = machine.say(&in_a_shell(&line));
        // Warnings of `doctor`, about this machine, are no failure, and neither is the end of what runs until Ctrl-C.
        let ended = |code: &str| said.lines().any(|line| line == code);
        let done = done || ended("rc=130") || (line.contains("doctor") && ended("rc=2"));
        assert!(done, "an example of the manual fails: {line}\n{said}");
        if line.starts_with("flannel-udp --") {
            assert!(said.contains("INFO ready"), "{line}\n{said}");
        }
    }
    machine.run("flannel-udp log-level info; rm -rf /mnt/* /tmp/*.pcapng /tmp/*.tar.gz");
    machines[1].run(&format!("ip address del {a}.{b}.{c}.5/32 dev lo"));
}

/// What other tests run: `tests/demo.rs`, and `make bench`, which takes minutes.
const ELSEWHERE: [&str; 2] = ["flannel-udp demo", "flannel-udp bench"];

/// The examples of all pages in their order, that of the daemon first; each once.
fn examples(machine: &Machine) -> Vec<String> {
    // A subnet is reserved before it is released, as the page of both says, not in the order of names.
    let pages = "cd /usr/share/man/man8 && zcat flannel-udp.8.gz flannel-udp-leases.8.gz flannel-udp-*.8.gz";
    let pages = machine.run(pages);
    let mut seen = BTreeSet::new();
    let lines = pages.split(".EX\n").skip(1).map(|rest| {
        let line = rest.lines().next().unwrap_or_default();
        line.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\\\", "\\")
    });
    lines.filter(|line| seen.insert(line.clone())).collect()
}

/// With the addresses of the machines in place of those of docs/walkthrough.md, and no longer than needed.
fn on_these_hosts(line: &str, nodes: &[Node; 2], interface: &str) -> String {
    let subnet = |node: &Node| {
        let [a, b, c, _] = node.overlay.octets();
        format!("{a}.{b}.{c}.")
    };
    // The free subnet of the examples is one that neither has.
    let free = ["10.0.77.", "10.0.78.", "10.0.79."];
    let free = free.iter().find(|free| nodes.iter().all(|node| subnet(node) != **free));
    line.replace("10.211.55.10", &nodes[0].address.to_string())
        .replace("10.211.55.11", &nodes[1].address.to_string())
        .replace("10.0.13.", &subnet(&nodes[0]))
        .replace("10.0.14.", &subnet(&nodes[1]))
        .replace("10.0.77.", free.expect("two nodes, three subnets"))
        .replace("eth0", interface)
        .replace("--duration=10", "--duration=1")
}

/// The script that runs a line, and presses Ctrl-C where it does not end by itself: `doctor` takes 10 s at most.
fn in_a_shell(line: &str) -> String {
    let report = "rc=$?; echo rc=$rc; exit $rc";
    // A daemon needs the place of the service, and `cleanup` the daemon's absence.
    let alone = |line: &str| {
        format!("systemctl stop flannel-udp; {line}; rc=$?; systemctl start flannel-udp; exit $rc")
    };
    if line.starts_with("flannel-udp --") {
        format!("systemctl stop flannel-udp; timeout --preserve-status 5 {line}")
    } else if line.starts_with("flannel-udp cleanup") {
        alone(line)
    } else if line == "flannel-udp top" {
        format!("(sleep 2; printf q) | TERM=xterm timeout 10 script -qec '{line}' /dev/null")
    } else {
        let stop = "timeout --preserve-status --signal=INT --kill-after=5 12";
        format!("cd /tmp; {stop} bash <<'END'\n{line}\nEND\n{report}")
    }
}
