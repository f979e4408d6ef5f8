//! What the unit promises about privileges: each line as systemd understands it, what the kernel shows of the
//! running daemon, and what a program under the same lines cannot do.

use crate::machine::Machine;

const UNIT: &str = include_str!("../../packaging/systemd/flannel-udp.service");
const USER_CONF: &str = include_str!("../../packaging/systemd/flannel-udp.service.d/user.conf");

/// Capabilities by their bits, `include/uapi/linux/capability.h`.
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const BPF: u64 = 1 << 39;

/// Lines of `[Service]` that are not about privileges; every other line is checked.
const OTHERS: [&str; 16] = [
    "Type",
    "EnvironmentFile",
    "ExecStart",
    "ExecStartPost",
    "ExecReload",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "WatchdogSec",
    "Restart",
    "RestartSec",
    "RestartPreventExitStatus",
    "RuntimeDirectory",
    "RuntimeDirectoryPreserve",
    "StateDirectory",
    "LimitNOFILE",
    "CPUWeight",
];

/// The lines about privileges of a unit file or drop-in.
fn lines(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let service = text.split("[Service]").nth(1).unwrap().split("\n[").next().unwrap();
    let lines = service.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).filter(|(key, _)| !OTHERS.contains(key))
}

/// Every hardening line of the unit, and with `user` of user.conf, is in force.
pub(crate) fn is_in_force(machine: &Machine, user: bool) {
    let drop_in = if user { USER_CONF } else { "[Service]\n" };
    let mut checked = 0;
    for (key, value) in lines(UNIT).chain(lines(drop_in)) {
        let shown = machine.run(&format!("systemctl show --property={key} --value flannel-udp"));
        // Lists are shown sorted, and groups of system calls as their members.
        let shown: Vec<String> = shown.split_whitespace().map(str::to_lowercase).collect();
        for word in value.split_whitespace() {
            let word = match (key, word) {
                ("SystemCallFilter", "@system-service") => "sendmmsg".to_owned(),
                ("SystemCallErrorNumber", "EPERM") => libc::EPERM.to_string(),
                _ => word.to_lowercase(),
            };
            assert!(shown.contains(&word), "{key}={value} is not in force: {shown:?}");
        }
        checked += 1;
    }
    assert!(checked >= 25, "only {checked} hardening lines");

    let state = machine.run("cat /proc/$(systemctl show -P MainPID flannel-udp)/status");
    let field = |name: &str| {
        let line = state.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("{name}: {state}")).trim().to_owned()
    };
    let set = |name: &str| u64::from_str_radix(&field(name), 16).unwrap();
    assert_eq!((&*field("NoNewPrivs"), &*field("Seccomp")), ("1", "2"), "{state}");
    assert_eq!(set("CapBnd"), NET_ADMIN | NET_RAW | BPF, "{state}");
    // The daemon has given up CAP_BPF itself.
    assert_eq!(set("CapPrm"), NET_ADMIN | NET_RAW, "{state}");
    assert_eq!(set("CapInh") | set("CapAmb"), NET_ADMIN | NET_RAW, "{state}");
    assert_eq!(set("CapEff"), NET_ADMIN, "{state}");
    assert_eq!(field("Umask"), "0022");
    assert_eq!(field("Uid").starts_with("0\t"), !user, "{state}");
}

/// The kernel chooses flannel0's queues by the daemon's program, which took bpf(2) and CAP_BPF.
pub(crate) fn steering_is_on(machine: &Machine) {
    let open = machine.run("ls -l /proc/$(systemctl show -P MainPID flannel-udp)/fd");
    assert!(open.contains("bpf-prog"), "no program is loaded: {open}");
    let log = machine.run("journalctl --no-pager _PID=$(systemctl show -P MainPID flannel-udp)");
    assert!(!log.contains("steering program"), "{log}");
}

/// What a program can do on the machine and cannot do under the unit's lines.
pub(crate) fn forbids(machine: &Machine) {
    let tries: String = FORBIDDEN
        .iter()
        .map(|(line, what)| format!("({what}) >/dev/null 2>&1 && echo {line}\n"))
        .collect();
    machine.write(PROGRAM, &format!("#!/bin/sh\n{tries}true\n"));
    machine.run(&format!("chmod 755 {PROGRAM}; touch /tmp/{MARK} /run/{MARK}"));
    let allowed = machine.run(PROGRAM);
    for (line, what) in FORBIDDEN {
        assert!(allowed.lines().any(|done| done == line), "proves nothing: {what}\n{allowed}");
    }
    // The unit itself, with another program.
    let unit = UNIT
        .lines()
        .filter(|line| !["ExecStart", "Type=", "Conflicts=fl"].iter().any(|l| line.starts_with(l)))
        .collect::<Vec<_>>()
        .join("\n");
    let program = format!("[Service]\nType=oneshot\nExecStart={PROGRAM}\n");
    machine.write("/etc/systemd/system/try-all.service", &unit.replace("[Service]\n", &program));
    machine.run("systemctl daemon-reload && systemctl start try-all");
    let allowed = machine.run("journalctl --sync; journalctl --no-pager --output=cat -u try-all");
    assert!(allowed.contains("Finished"), "{allowed}");
    for (line, what) in FORBIDDEN {
        assert!(!allowed.lines().any(|done| done == line), "{line} does not forbid: {what}");
    }
    machine.run(&format!(
        "rm /etc/systemd/system/try-all.service {PROGRAM} /tmp/{MARK} /run/{MARK}; systemctl daemon-reload"
    ));
}

/// Tries everything in [`FORBIDDEN`] and prints which lines did not forbid it.
const PROGRAM: &str = "/usr/local/bin/try-all";

/// Files of the machine in /tmp and /run that the program uses.
const MARK: &str = "of-the-machine";

/// A line of the unit, and a command that it makes fail. The other lines forbid what systemd-nspawn, too,
/// forbids, what needs a device, what would change the clock or the kernel of the whole machine, or, as
/// ProtectProc, nothing to the group root.
const FORBIDDEN: [(&str, &str); 14] = [
    ("CapabilityBoundingSet", "chown nobody /run/of-the-machine"),
    ("LockPersonality", "setarch --addr-no-randomize true"),
    ("NoNewPrivileges", "grep -x 'NoNewPrivs:.0' /proc/self/status"),
    ("PrivateTmp", "ls /tmp/of-the-machine"),
    (
        "ProtectControlGroups",
        "d=$(echo /sys/fs/cgroup/*/system.slice /sys/fs/cgroup/system.slice | cut -d' ' -f1); mkdir $d/try && rmdir $d/try",
    ),
    ("ProtectHome", "ls /root"),
    ("ProtectHostname", "hostname $(hostname)"),
    ("ProtectKernelLogs", "dmesg"),
    ("ProtectSystem", ": >/etc/of-the-machine && rm /etc/of-the-machine"),
    ("RestrictAddressFamilies", "perl -e 'socket(S, 17, 3, 0) or exit 1'"),
    ("RestrictNamespaces", "unshare --user true"),
    ("RestrictRealtime", "chrt --fifo 1 true"),
    ("RestrictSUIDSGID", "chmod u+s /run/of-the-machine && chmod u-s /run/of-the-machine"),
    ("SystemCallFilter", "mount -t tmpfs tmpfs /mnt && umount /mnt"),
];
