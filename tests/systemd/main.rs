//! The Debian package on two hosts that systemd boots: installed, started, disturbed, upgraded, removed. Then the
//! RPM package on one of them.
//!
//! `make test-systemd` makes the packages and a root file system, names them in `FLANNEL_UDP_DEB`,
//! `FLANNEL_UDP_RPM` and `FLANNEL_UDP_DEBIAN`, and runs this. It needs root and systemd-nspawn, so plain `cargo test` leaves it out.

mod deb;
mod hardening;
mod leftovers;
mod machine;
mod manual;
mod operator;
mod rpm;
mod service_manager;

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deb::{install, later_version};
use flannel_udp::lab::{self, Lab};
use leftovers::Contents;
use machine::Machine;

const CONFIG: &str = r#"{"Network": "10.0.0.0/16", "Backend": {"Type": "udp"}}"#;
const SOON: Duration = Duration::from_secs(20);

#[test]
#[ignore = "needs systemd-nspawn and the package: make test-systemd"]
fn the_package_under_systemd() {
    let Some([deb, rpm, debian]) = prerequisites() else { return };
    let mut site = Site::build(&deb, &debian);
    let before = Contents::of(&site.machines[1]);
    site.installs_and_waits_for_its_configuration();
    site.starts_hardened_and_forwards();
    site.does_what_the_manual_says();
    operator::mends_what_breaks(&site);
    site.is_reloaded_in_place();
    site.restarts_with_its_subnet();
    site.comes_back_after_kill_and_hang();
    site.logs_to_the_journal();
    site.gives_up_on_wrong_flags();
    site.works_with_every_firewall();
    site.runs_as_a_user();
    site.a_boot_without_etcd_holds_nothing();
    site.a_boot_with_etcd_on_the_same_host();
    site.is_upgraded();
    site.leaves_nothing(&before);
    site.is_an_rpm_too(&rpm);
}

/// The packages and the root file system; `None` after a loud line where this machine cannot run the test.
fn prerequisites() -> Option<[PathBuf; 3]> {
    let file = |name: &str| {
        let value = std::env::var_os(name)
            .ok_or_else(|| format!("{name} is not set (make test-systemd)"))?;
        Ok::<_, String>(PathBuf::from(value))
    };
    let tried = lab::have_privilege().map_err(|why| why.replace('\n', "; ")).and_then(|_| {
        let debian = file("FLANNEL_UDP_DEBIAN")?;
        Machine::possible(&debian)?;
        Ok([file("FLANNEL_UDP_DEB")?, file("FLANNEL_UDP_RPM")?, debian])
    });
    match tried {
        Ok(found) => Some(found),
        Err(lacking) => {
            let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
            assert!(!required, "the test of the package cannot run here: {lacking}");
            // The test harness captures what `eprintln!` prints.
            let _ = writeln!(std::io::stderr(), "SKIPPED the_package_under_systemd: {lacking}");
            None
        }
    }
}

/// Two machines, the first with Debian's etcd.
struct Site {
    // Dropped in this order: machines before the namespaces and files they use.
    machines: [Machine; 2],
    lab: Lab,
    package: PathBuf,
}

impl Site {
    fn build(package: &Path, debian: &Path) -> Self {
        machine::remove_traces(|name| {
            let owner = name.strip_prefix("fu").and_then(|rest| rest.split('-').next());
            let pid = owner.and_then(|pid| pid.parse::<u32>().ok());
            pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        });
        let lab = Lab::builder().binary(env!("CARGO_BIN_EXE_flannel-udp")).build().unwrap();
        let machines = [0, 1].map(|number| Machine::new(lab.host(number), debian));
        let mut site = Self { machines, lab, package: package.to_owned() };
        let [first, second] = &site.machines;
        let address = site.lab.host(0).address();
        first.write(
            "/etc/default/etcd",
            &format!(
                "ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379\nETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379\n"
            ),
        );
        std::fs::remove_file(
            second.root().join("etc/systemd/system/multi-user.target.wants/etcd.service"),
        )
        .unwrap();
        for number in [0, 1] {
            site.boot(number);
        }
        site.machines[0].until("systemctl is-active etcd", SOON);
        site.put_config(CONFIG);
        site
    }

    fn boot(&mut self, number: usize) {
        self.machines[number].boot(self.lab.host(number));
    }

    fn put_config(&self, config: &str) {
        self.machines[0].run(&format!("etcdctl put /coreos.com/network/config '{config}'"));
    }

    fn etcd(&self, verb: &str) {
        self.machines[0].run(&format!("systemctl {verb} etcd"));
    }

    /// The address of flannel0 on a machine: the network address of its subnet.
    fn overlay(&self, number: usize) -> Ipv4Addr {
        let subnet =
            self.machines[number].run("sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env");
        let gateway: Ipv4Addr = subnet.trim().split('/').next().unwrap().parse().unwrap();
        Ipv4Addr::from(u32::from(gateway) - 1)
    }

    /// Packets cross the overlay both ways.
    #[track_caller]
    fn packets_cross(&self) {
        for (here, there) in [(0, 1), (1, 0)] {
            let to = self.overlay(there);
            let pong = lab::ping::ping(self.lab.host(here).netns(), to, SOON);
            let pong = pong.unwrap_or_else(|error| panic!("no ping to {to}: {error}"));
            // 64, less one for each daemon.
            assert_eq!(pong.ttl, 62, "{to} was reached past the overlay");
        }
    }

    /// apt installs the package; nothing starts before somebody asks for it.
    fn installs_and_waits_for_its_configuration(&self) {
        for (number, machine) in self.machines.iter().enumerate() {
            install(machine, &self.package);
            let state = machine.run(
                "systemctl is-enabled flannel-udp || true; systemctl is-active flannel-udp || true",
            );
            assert_eq!(state, "disabled\ninactive\n");
            machine.run("systemd-analyze verify --man=no flannel-udp.service");
            machine.run(&format!("printf '{}' >>/etc/default/flannel-udp", self.options(number)));
        }
    }

    fn starts_hardened_and_forwards(&self) {
        for machine in &self.machines {
            machine.run("systemctl enable --now flannel-udp");
        }
        self.packets_cross();
        for machine in &self.machines {
            machine.until("systemctl show -P StatusText flannel-udp | grep '1 peer'", SOON);
            machine.run("grep DOCKER_OPTS= /run/docker_opts.env");
            hardening::is_in_force(machine, false);
            hardening::steering_is_on(machine);
        }
        hardening::forbids(&self.machines[1]);
    }

    /// The lines of a machine's file of options, for printf.
    fn options(&self, number: usize) -> String {
        let (etcd, own) = (self.lab.host(0).address(), self.lab.host(number).address());
        format!(
            "FLANNELD_ETCD_ENDPOINTS=http://{etcd}:2379\\nFLANNELD_IFACE={own}\\nFLANNELD_IP_MASQ=true\\n\
             FLANNELD_METRICS_ADDR={own}:9285\\n"
        )
    }

    fn does_what_the_manual_says(&self) {
        let nodes = [0, 1].map(|number| manual::Node {
            address: self.lab.host(number).address(),
            overlay: self.overlay(number),
        });
        manual::examples_work(&self.machines, &nodes);
        self.packets_cross();
    }

    fn restarts_with_its_subnet(&self) {
        let before = self.overlay(1);
        self.machines[1].run("systemctl restart flannel-udp");
        assert_eq!(self.overlay(1), before);
        self.packets_cross();
    }

    /// SIGKILL, and SIGSTOP with a watchdog of 3 s instead of 30: systemd starts the daemon again.
    fn comes_back_after_kill_and_hang(&self) {
        let (machine, subnet) = (&self.machines[1], self.overlay(1));
        drop_in(machine, "watchdog", "[Service]\nWatchdogSec=3\nRestartSec=100ms\n");
        for (signal, result) in [("KILL", "killed"), ("STOP", "Watchdog timeout")] {
            let before = machine.run(MAIN_PID);
            machine.run(&format!("systemctl kill --kill-whom=main --signal={signal} flannel-udp"));
            let again = format!("{ACTIVE} && test $({MAIN_PID}) != {}", before.trim());
            machine.until(&again, Duration::from_secs(30));
            let journal = machine.run("journalctl --no-pager -n 60 -u flannel-udp");
            assert!(journal.contains(result), "{signal}: {journal}");
            assert_eq!(self.overlay(1), subnet);
            self.packets_cross();
        }
        undo_drop_in(machine, "watchdog");
    }

    fn gives_up_on_wrong_flags(&self) {
        let machine = &self.machines[1];
        drop_in(
            machine,
            "flag",
            "[Service]\nEnvironment=FLANNEL_UDP_OPTS=--no-such-flag\nEnvironmentFile=\n",
        );
        machine.until("systemctl is-failed flannel-udp", SOON);
        let said = machine.run("systemctl show -p NRestarts -p ExecMainStatus flannel-udp");
        assert_eq!(said, "NRestarts=0\nExecMainStatus=64\n");
        undo_drop_in(machine, "flag");
        self.packets_cross();
    }

    fn works_with_every_firewall(&self) {
        let rules = [
            ("iptables-nft", "iptables-nft-save", CONFIG.to_owned()),
            ("iptables-legacy", "iptables-legacy-save", CONFIG.to_owned()),
            (
                "iptables-nft",
                "nft list ruleset",
                CONFIG.replacen('{', r#"{"EnableNFTables": true, "#, 1),
            ),
        ];
        let machine = &self.machines[0];
        for (iptables, list, config) in rules {
            self.put_config(&config);
            let switch = format!("update-alternatives --set iptables /usr/sbin/{iptables}");
            // As an operator should: the rules of one kind are removed before another kind is chosen.
            machine.run(&format!("systemctl stop flannel-udp && flannel-udp cleanup && {switch}"));
            machine.run("systemctl start flannel-udp");
            let listed = machine.run(list);
            assert!(listed.to_lowercase().contains("masquerade"), "{list}: {listed}");
            assert!(listed.to_lowercase().contains("flannel"), "{list}: {listed}");
            self.packets_cross();
        }
        self.put_config(CONFIG);
        machine.run("systemctl restart flannel-udp");
    }

    /// The drop-in user.conf, as docs/hardening.md says.
    fn runs_as_a_user(&self) {
        let machine = &self.machines[1];
        machine.run(
            "chmod 0666 /dev/net/tun && mkdir -p /etc/systemd/system/flannel-udp.service.d && \
             cp /usr/share/flannel-udp/flannel-udp.service.d/user.conf /etc/systemd/system/flannel-udp.service.d/ && \
             systemctl daemon-reload && systemctl restart flannel-udp",
        );
        hardening::is_in_force(machine, true);
        hardening::steering_is_on(machine);
        machine.run("grep DOCKER_OPTS= /run/docker_opts.env");
        self.packets_cross();
        undo_drop_in(machine, "user");
        self.packets_cross();
    }

    /// Docker waits with the drop-in alone, and then starts with the host's subnet.
    fn a_boot_without_etcd_holds_nothing(&mut self) {
        let docker = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo $DOCKER_OPTS'\n\
                      [Install]\nWantedBy=multi-user.target\n";
        self.machines[1].write("/etc/systemd/system/docker.service", docker);
        self.machines[1].run("systemctl daemon-reload && systemctl enable docker");
        self.etcd("stop");
        self.machines[1].halt();
        self.boot(1);
        let machine = &self.machines[1];
        machine.until(BOOTED, SOON);
        let state = machine.run("systemctl show -P ActiveState flannel-udp");
        assert_eq!(state, "activating\n");

        machine.run(
            "mkdir -p /etc/systemd/system/docker.service.d && \
             cp /usr/share/flannel-udp/docker.service.d/flannel-udp.conf /etc/systemd/system/docker.service.d/",
        );
        self.machines[1].halt();
        self.boot(1);
        let machine = &self.machines[1];
        machine.until("systemctl list-jobs | grep 'docker.service.*waiting'", SOON);
        self.etcd("start");
        machine.until(BOOTED, SOON);
        let said = machine.run("journalctl --no-pager --output=cat -b -u docker");
        assert!(said.contains("--bip="), "{said}");
        self.packets_cross();
        machine.run(
            "systemctl disable docker; rm -r /etc/systemd/system/docker.service*; systemctl daemon-reload",
        );
    }

    /// The power fails on the host with etcd; both start in their order.
    fn a_boot_with_etcd_on_the_same_host(&mut self) {
        let before = self.overlay(0);
        self.machines[0].cut_power();
        self.boot(0);
        self.machines[0].until(ACTIVE, Duration::from_secs(40));
        assert_eq!(self.overlay(0), before);
        self.packets_cross();
    }

    /// A later version: a running daemon is restarted, a stopped one stays stopped, settings are kept.
    fn is_upgraded(&self) {
        let later = later_version(&self.package, self.lab.directory());
        let [first, second] = &self.machines;
        let (before, subnet) = (first.run(MAIN_PID), self.overlay(0));
        second.run("systemctl stop flannel-udp && test -e /run/flannel/subnet.env");
        for machine in [first, second] {
            let settings = machine.run("cat /etc/default/flannel-udp");
            install(machine, &later);
            assert_eq!(machine.run("cat /etc/default/flannel-udp"), settings);
            assert_eq!(machine.run("systemctl is-enabled flannel-udp"), "enabled\n");
        }
        first.until(ACTIVE, SOON);
        assert_ne!(first.run(MAIN_PID), before);
        assert_eq!(self.overlay(0), subnet);
        assert_eq!(second.say("systemctl is-active flannel-udp").0, "inactive\n");
        second.run("systemctl start flannel-udp");
        self.packets_cross();
    }

    fn leaves_nothing(&self, before: &Contents) {
        let machine = &self.machines[1];
        machine.run("apt-get -q remove -y flannel-udp");
        let left = machine.run(
            "iptables-nft-save; nft list ruleset; ip link; cat /run/flannel/subnet.env || true",
        );
        assert!(!left.to_lowercase().contains("flannel-"), "{left}");
        assert!(!left.contains("flannel0") && left.contains("No such file"), "{left}");
        machine.run("test -e /etc/default/flannel-udp");
        machine.run("apt-get -q purge -y flannel-udp");
        Contents::of(machine).same_as(before);
    }

    fn is_an_rpm_too(&self, package: &Path) {
        let machine = &self.machines[1];
        rpm::bring(machine, package);
        rpm::lives_its_life(machine, &self.options(1), || self.packets_cross());
    }
}

/// Adds a drop-in, and restarts the service with it.
fn drop_in(machine: &Machine, name: &str, text: &str) {
    machine.write(&format!("/etc/systemd/system/flannel-udp.service.d/{name}.conf"), text);
    machine.say("systemctl daemon-reload; systemctl restart flannel-udp");
}

/// Removes a drop-in, and restarts the service without it.
fn undo_drop_in(machine: &Machine, name: &str) {
    let directory = "/etc/systemd/system/flannel-udp.service.d";
    machine.run(&format!(
        "rm {directory}/{name}.conf && rmdir {directory} && systemctl daemon-reload && \
         systemctl restart flannel-udp"
    ));
}

/// (`systemctl is-active` with several units is content with one.)
const BOOTED: &str = "systemctl is-active multi-user.target && systemctl is-active docker";
const ACTIVE: &str = "systemctl is-active flannel-udp";
const MAIN_PID: &str = "systemctl show -P MainPID flannel-udp";
