//! What the daemon asks of its operating system: interface, flannel0, firewall rules, files, systemd.

pub mod docker_opts;
pub mod firewall;
pub mod interface;
pub mod link;
pub mod netlink;
pub mod subnet_file;
pub mod systemd;
pub mod watch;
