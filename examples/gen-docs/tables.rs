//! What the command line's definition does not know: variables, signals, files and related pages.

pub(crate) const DAEMON_VARIABLES: [(&str, &str); 6] = [
    (
        "FLANNELD_FLAG",
        "Each flag can be set by a variable: FLANNELD_ and the name of the flag in capitals, with _ for -, such as \
         FLANNELD_ETCD_ENDPOINTS. A flag on the command line wins; a variable with an empty value counts as not set.",
    ),
    (
        "FLANNEL_UDP_OPTS",
        "In /etc/default/flannel-udp: flags for the daemon that the systemd unit starts, for those that can be \
         repeated.",
    ),
    (
        "JOURNAL_STREAM",
        "Set by systemd: lines of the log have a priority, and no time of their own.",
    ),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "Set by systemd: the daemon reports readiness, state and health.",
    ),
    (
        "PATH",
        "Where iptables and nft are looked for; /usr/local/sbin, /usr/sbin and /sbin come last.",
    ),
    ("XTABLES_LOCKFILE", "The lock of iptables [default: /run/xtables.lock]."),
];

pub(crate) const SIGNALS: [(&str, &str); 3] = [
    (
        "SIGTERM, SIGINT",
        "Stop. flannel0 is removed; the lease, the subnet file and the firewall rules stay for the next start.",
    ),
    (
        "SIGHUP",
        "Set the log level of the start again. The log says what takes effect at a restart only.",
    ),
    ("SIGUSR1", "Write the counters to the file of --stats-json."),
];

pub(crate) const FILES: [(&str, &str); 6] = [
    ("/run/flannel/subnet.env", "The subnet of this host, for the container runtime."),
    ("/run/docker_opts.env", "Options for dockerd, written by flannel-udp docker-opts."),
    ("/run/flannel/flannel-udp.sock", "Status socket, which answers root."),
    ("/etc/default/flannel-udp", "Environment of the systemd unit."),
    ("/dev/net/tun", "The device that TUN interfaces are made with."),
    ("/run/xtables.lock", "Shared with iptables."),
];

/// Pages of other programs: command, page, section.
pub(crate) const RELATED: [(&str, &str, &str); 14] = [
    ("flannel-udp", "iptables", "8"),
    ("flannel-udp", "nft", "8"),
    ("flannel-udp", "ip-route", "8"),
    ("flannel-udp", "systemd.exec", "5"),
    ("flannel-udp-capture", "tcpdump", "8"),
    ("flannel-udp-capture", "tshark", "1"),
    ("flannel-udp-cleanup", "iptables", "8"),
    ("flannel-udp-cleanup", "nft", "8"),
    ("flannel-udp-explain", "ip-route", "8"),
    ("flannel-udp-explain", "ip-rule", "8"),
    ("flannel-udp-docker-opts", "dockerd", "8"),
    ("flannel-udp-leases", "etcdctl", "1"),
    ("flannel-udp-log-level", "journalctl", "1"),
    ("flannel-udp-completions", "bash", "1"),
];
