//! An operator who knows only what the program prints: a host is broken, one command names the fault, and what
//! it shows as remedy is run as printed until packets cross again.

use std::time::Duration;

use flannel_udp::humanize;

use crate::machine::Machine;
use crate::{SOON, Site};

/// A fault, and where an operator finds it named.
struct Fault {
    /// Breaks the second host. `PEER` stands for the other host's subnet, `GATEWAY` for its address.
    broken: &'static str,
    /// What the operator runs there.
    asked: &'static str,
    /// Words of the line that names the fault.
    named: &'static str,
    /// How the command begins that is shown as remedy and run as printed.
    remedy: Option<&'static str>,
    /// What is left to do then, and which rules of this test's have served their turn.
    then: &'static str,
}

const DOCTOR: &str = "flannel-udp doctor";
const STATUS: &str = "flannel-udp status";
const JOURNAL: &str = "journalctl --no-pager --output=cat -n 30 -u flannel-udp";

const FAULTS: [Fault; 12] = [
    Fault {
        broken: "sysctl -w net.ipv4.ip_forward=0",
        asked: STATUS,
        named: "does not forward packets between its containers and the overlay",
        remedy: Some("sysctl -w net.ipv4.ip_forward=1"),
        then: "true",
    },
    Fault {
        broken: "iptables -I INPUT -p udp --dport 8285 -j DROP",
        asked: DOCTOR,
        named: "-A INPUT -p udp",
        remedy: Some("iptables -I INPUT"),
        then: "iptables -F INPUT",
    },
    Fault {
        broken: "iptables -I OUTPUT -p udp --dport 8285 -j REJECT",
        asked: DOCTOR,
        named: "-A OUTPUT -p udp",
        remedy: Some("iptables -I OUTPUT"),
        then: "iptables -F OUTPUT",
    },
    Fault {
        broken: "nft 'add table inet strict; add chain inet strict i { type filter hook input priority 5; }; \
                 add rule inet strict i udp dport 8285 drop'",
        asked: DOCTOR,
        named: "of chain i in nft's table inet strict",
        remedy: Some("nft insert rule inet strict i"),
        then: "nft delete table inet strict",
    },
    Fault {
        broken: "ip route add PEER via GATEWAY",
        asked: DOCTOR,
        named: "diverts traffic from the overlay",
        remedy: Some("ip route del"),
        then: "true",
    },
    Fault {
        broken: "ip rule add to PEER unreachable pref 100",
        asked: DOCTOR,
        named: "drops packets from this host to",
        remedy: Some("ip rule"),
        then: "ip rule del pref 100",
    },
    Fault {
        broken: "systemctl stop flannel-udp",
        // That the settings were found there is no fault, so it is among the checks that passed.
        asked: "flannel-udp doctor --verbose",
        named: "as set for the daemon in /etc/default/flannel-udp",
        remedy: Some("systemctl start flannel-udp"),
        then: "true",
    },
    Fault {
        broken: "systemctl stop flannel-udp; \
                 systemd-run -q --unit=other --socket-property=ListenDatagram=8285 true; \
                 systemctl start --no-block flannel-udp",
        asked: JOURNAL,
        named: "cannot listen on UDP",
        remedy: Some("ss -ulnp"),
        then: "systemctl stop other.socket && systemctl start flannel-udp",
    },
    Fault {
        broken: "sed -i 's/^FLANNELD_IFACE=.*/FLANNELD_IFACE=eth7/' /etc/default/flannel-udp; \
                 systemctl restart --no-block flannel-udp",
        asked: JOURNAL,
        named: "no usable network interface",
        remedy: None,
        then: "sed -i 's/^FLANNELD_IFACE=.*/FLANNELD_IFACE=eth0/' /etc/default/flannel-udp && \
               systemctl restart flannel-udp",
    },
    Fault {
        broken: "etcdctl --endpoints=http://GATEWAY:2379 put /coreos.com/network/subnets/bogus junk",
        asked: DOCTOR,
        named: "subnets/bogus is not a lease",
        remedy: Some("ETCDCTL_API=3 etcdctl"),
        then: "true",
    },
    Fault {
        broken: "etcdctl --endpoints=http://GATEWAY:2379 put /coreos.com/network/subnets/10.0.99.0-24 \
                 '{\"PublicIP\":\"10.0.99.5\",\"BackendType\":\"udp\"}'",
        asked: DOCTOR,
        named: "where they would loop forever",
        remedy: Some("flannel-udp leases release --force"),
        then: "true",
    },
    Fault {
        broken: "iptables -t nat -F FLANNEL-POSTRTG; ip link del flannel0",
        asked: JOURNAL,
        named: "the TUN device was deleted",
        remedy: None,
        then: "true",
    },
];

/// Breaks the second host of a site in each way, and mends it by what is printed.
pub(crate) fn mends_what_breaks(site: &Site) {
    let machine = &site.machines[1];
    let gateway = site.lab.host(0).address().to_string();
    for fault in &FAULTS {
        let subnet = format!("{}/24", site.overlay(0));
        let broken = fault.broken.replace("PEER", &subnet).replace("GATEWAY", &gateway);
        println!("# {broken}");
        machine.say(&broken);
        let said = asks_until_named(machine, fault);
        if let Some(remedy) = fault.remedy {
            let command = humanize::commands(&said).find(|command| command.starts_with(remedy));
            let command = command.unwrap_or_else(|| panic!("no `{remedy}` in {said}"));
            println!("# {command}");
            machine.run(command);
        }
        // No operator is so fast that systemd's limit of starts is reached.
        machine.run("systemctl reset-failed");
        machine.run(fault.then);
        machine.until(crate::ACTIVE, SOON);
        site.packets_cross();
    }
    machine.until("flannel-udp status | grep '^ready, nothing wrong'", Duration::from_secs(30));
}

#[track_caller]
fn asks_until_named(machine: &Machine, fault: &Fault) -> String {
    let mut said = String::new();
    machine.wait(fault.named, SOON, || {
        said = machine.say(fault.asked).0;
        said.contains(fault.named)
    });
    said
}
