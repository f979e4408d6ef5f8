//! IPv4 kernel settings under `/proc/sys/net`.

use std::path::Path;

/// Reads a setting such as `ipv4/ip_forward`; `None` if it is no number or cannot be read.
pub fn number(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/net").join(key)).ok()?;
    text.trim().parse().ok()
}

/// Reads an IPv4 setting of one interface.
pub fn of_interface(name: &str, key: &str) -> Option<u64> {
    number(&format!("ipv4/conf/{name}/{key}"))
}

/// The command that changes an IPv4 setting of one interface. With a dot in its name the separators are
/// slashes (sysctl(8)).
pub fn set_command(name: &str, key: &str, value: u64) -> String {
    if name.contains('.') {
        format!("sysctl -w net/ipv4/conf/{name}/{key}={value}")
    } else {
        format!("sysctl -w net.ipv4.conf.{name}.{key}={value}")
    }
}

/// The mode of reverse path filtering of an interface. The larger of the setting for all interfaces and that
/// of the interface is effective (`Documentation/networking/ip-sysctl.rst`).
pub fn reverse_path_filter(name: &str) -> Option<u64> {
    Some(of_interface("all", "rp_filter")?.max(of_interface(name, "rp_filter")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_with_a_dot_in_its_name_gets_slashes() {
        let set = |name| set_command(name, "rp_filter", 2);
        assert_eq!(set("eth0"), "sysctl -w net.ipv4.conf.eth0.rp_filter=2");
        assert_eq!(set("eth0.100"), "sysctl -w net/ipv4/conf/eth0.100/rp_filter=2");
    }
}
