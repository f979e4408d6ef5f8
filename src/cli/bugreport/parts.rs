//! The parts of a report, and where each comes from.

use std::fmt;
use std::path::{Path, PathBuf};

/// A part of the report.
pub(super) struct Part {
    /// Its file in the archive.
    pub(super) name: &'static str,
    pub(super) source: Source,
    /// Exit codes of a command that are no failure.
    pub(super) results: &'static [i32],
}

/// Where a part comes from.
pub(super) enum Source {
    /// A program and its arguments.
    Command(Vec<String>),
    /// Files, as many as there are.
    Files(Vec<String>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Command(words) | Self::Files(words)) = self;
        f.write_str(&words.join(" "))
    }
}

/// All parts; `pid` is that of the daemon behind `socket`, if one is running.
pub(super) fn all(socket: &Path, subnet_file: &Path, pid: Option<u32>) -> Vec<Part> {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("flannel-udp"));
    let mut parts = Vec::new();
    let mut add = |name, source| parts.push(Part { name, source, results: &[0] });
    for (name, words) in OWN {
        let mut command = vec![own.display().to_string()];
        command.extend(words.split_whitespace().map(str::to_owned));
        if !words.starts_with('-') {
            command.extend(["--socket".to_owned(), socket.display().to_string()]);
        }
        if words.starts_with(DOCTOR) {
            command.extend(["--subnet-file".to_owned(), subnet_file.display().to_string()]);
        }
        add(name, Source::Command(command));
    }
    for (name, words) in COMMANDS {
        add(name, Source::Command(words.split_whitespace().map(str::to_owned).collect()));
    }
    for (name, paths) in FILES {
        add(name, Source::Files(paths.iter().map(|path| (*path).to_owned()).collect()));
    }
    let files = [subnet_file.display().to_string(), "/run/docker_opts.env".to_owned()];
    add("subnet-file.txt", Source::Files(files.into()));
    add("sysctls.txt", Source::Files(sysctls()));
    if let Some(pid) = pid {
        let words = ["journalctl", "-n", "5000", "--no-pager", "-o", "short-iso-precise"];
        let words = words.map(str::to_owned).into_iter().chain([format!("_PID={pid}")]);
        add("log-of-process.txt", Source::Command(words.collect()));
        let paths = ["cmdline", "environ", "status", "limits", "cgroup"];
        let paths = paths.map(|file| format!("/proc/{pid}/{file}"));
        add("process.txt", Source::Files(paths.into()));
    }
    for part in parts.iter_mut().filter(|part| part.name.starts_with(DOCTOR)) {
        // Its exit code is its verdict.
        part.results = &[0, 1, 2];
    }
    parts
}

/// The settings of the kernel that matter to the overlay, of all interfaces.
fn sysctls() -> Vec<String> {
    let interfaces = std::fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten();
    let mut names: Vec<_> =
        interfaces.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.truncate(MOST_INTERFACES);
    let of_interface = |name: &String| {
        ["forwarding", "rp_filter", "accept_local", "src_valid_mark"]
            .map(|key| format!("/proc/sys/net/ipv4/conf/{name}/{key}"))
    };
    let mut paths: Vec<_> = SYSCTLS
        .iter()
        .map(|key| format!("/proc/sys/{key}"))
        .filter(|p| Path::new(p).exists())
        .collect();
    paths.extend(names.iter().flat_map(of_interface));
    paths
}

/// The command whose exit code is a verdict, and the names of its parts.
const DOCTOR: &str = "doctor";

/// Commands of this program; those without a dash in front take the socket.
const OWN: [(&str, &str); 9] = [
    ("version.txt", "--version"),
    ("status.txt", "status"),
    ("status.json", "status --json --interval=0"),
    ("peers.txt", "peers"),
    ("routes.txt", "routes"),
    ("log-level.txt", "log-level"),
    ("leases.txt", "leases list"),
    ("doctor.txt", "doctor --verbose --timeout=20"),
    ("doctor.json", "doctor --json --peers=no --timeout=20"),
];

/// Commands of the host.
const COMMANDS: [(&str, &str); 17] = [
    ("kernel.txt", "uname -a"),
    ("log.txt", "journalctl -u flannel-udp -n 5000 --no-pager -o short-iso-precise"),
    ("log-kernel.txt", "journalctl -k -n 500 --no-pager -o short-iso-precise"),
    ("unit.txt", "systemctl cat --no-pager flannel-udp"),
    ("unit-state.txt", "systemctl show --no-pager flannel-udp"),
    ("iptables.txt", "iptables-save -c"),
    ("iptables-legacy.txt", "iptables-legacy-save -c"),
    ("iptables-version.txt", "iptables --version"),
    ("nft.txt", "nft list ruleset"),
    ("addresses.txt", "ip -details -statistics address"),
    ("kernel-routes.txt", "ip route show table all"),
    ("rules.txt", "ip rule"),
    ("neighbours.txt", "ip neighbour"),
    ("queueing.txt", "tc -statistics qdisc"),
    ("udp-sockets.txt", "ss -u -l -n -p -m -e"),
    ("udp-counters.txt", "nstat -a -z -s"),
    ("docker.txt", "docker version"),
];

/// Files of the host.
const FILES: [(&str, &[&str]); 3] = [
    (
        "system.txt",
        &["/etc/os-release", "/proc/version", "/proc/cmdline", "/proc/loadavg", "/proc/meminfo"],
    ),
    ("settings.txt", &["/etc/default/flannel-udp"]),
    ("docker-daemon.txt", &["/etc/docker/daemon.json"]),
];

/// Settings of the kernel that are not an interface's.
const SYSCTLS: [&str; 12] = [
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_no_pmtu_disc",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/udp_mem",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/core/rmem_default",
    "net/core/netdev_max_backlog",
    "net/core/default_qdisc",
    "net/core/bpf_jit_enable",
    "kernel/unprivileged_bpf_disabled",
];

/// Most interfaces whose settings are collected; a host with containers has hundreds, which are alike.
const MOST_INTERFACES: usize = 64;
