//! Set-up of this host: the interface between hosts, the TUN device and its routes, firewall rules,
//! files for the container runtime, systemd.

pub mod conflicts;
pub mod docker_opts;
pub mod firewall;
pub mod interface;
pub mod link;
pub mod netlink;
pub mod outer;
pub mod ports;
pub mod routing;
pub mod subnet_file;
pub mod sysctl;
pub mod systemd;
pub mod watch;
