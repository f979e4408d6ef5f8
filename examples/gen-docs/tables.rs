//! What the command line's definition does not know: variables, signals, files and related pages.

pub(crate) const DAEMON_VARIABLES: [(&str, &str); 6] = [
    (
        "FLANNELD_FLAG",
        "Each flag can be set by a variable: FLANNELD_ and the name of the flag in capitals, with _ for -, such as \
         FLANNELD_ETCD_ENDPOINTS. A flag on the command line wins. An empty variable counts as not set.",
    ),
    (
        "FLANNEL_UDP_OPTS",
        "In /etc/default/flannel-udp: flags for the daemon that the systemd unit starts, such as those that are \
         repeated.",
    ),
    ("JOURNAL_STREAM", "Set by systemd: log lines have a priority and no timestamp of their own."),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "Set by systemd: the daemon reports readiness, state and health.",
    ),
    (
        "PATH",
        "Searched for iptables and nft; /usr/local/sbin, /usr/sbin and /sbin are searched last.",
    ),
    ("XTABLES_LOCKFILE", "Lock file of iptables [default: /run/xtables.lock]."),
];

pub(crate) const SIGNALS: [(&str, &str); 3] = [
    (
        "SIGTERM, SIGINT",
        "Stop. flannel0 is removed; the lease, the subnet file and the firewall rules stay for the next start.",
    ),
    (
        "SIGHUP",
        "Reread certificates and keys, and restore the log level set at startup. The log says what needs a restart.",
    ),
    ("SIGUSR1", "Write the counters to the file of --stats-json."),
];

pub(crate) const FILES: [(&str, &str); 6] = [
    ("/run/flannel/subnet.env", "The subnet of this host, for the container runtime."),
    ("/run/docker_opts.env", "Options for dockerd, written by flannel-udp docker-opts."),
    ("/run/flannel/flannel-udp.sock", "Status socket, accessible to root only."),
    ("/etc/default/flannel-udp", "Environment of the systemd unit."),
    ("/dev/net/tun", "Device for creating TUN interfaces."),
    ("/run/xtables.lock", "Lock shared with iptables."),
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
