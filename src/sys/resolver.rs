//! Names of addresses: `getnameinfo(3)`.

use std::ffi::CStr;
use std::mem;
use std::net::Ipv4Addr;

/// The name that this host's resolver has for an address (`/etc/hosts`, DNS, as `nsswitch.conf(5)` says); `None`
/// without one. It waits for a name server as long as `resolv.conf(5)` says.
pub fn host_name(address: Ipv4Addr) -> Option<String> {
    let socket_address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
        sin_zero: [0; 8],
    };
    let mut name = [0u8; MAX_NAME];
    // SAFETY: `socket_address` is readable for its size and `name` writable for its own; both outlive the call. No
    // service is asked for, so its buffer may be null (getnameinfo(3)).
    let outcome = unsafe {
        libc::getnameinfo(
            (&raw const socket_address).cast(),
            mem::size_of_val(&socket_address) as libc::socklen_t,
            name.as_mut_ptr().cast(),
            name.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    let name = CStr::from_bytes_until_nul(&name).ok()?.to_str().ok()?;
    // A name server may answer anything, and the name is printed to a terminal.
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    (outcome == 0 && is_name).then(|| name.to_owned())
}

/// `NI_MAXHOST` (`netdb.h`).
const MAX_NAME: usize = 1025;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_name_for_loopback() {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let listed = hosts.lines().any(|line| line.split_whitespace().next() == Some("127.0.0.1"));
        assert_eq!(host_name(Ipv4Addr::LOCALHOST).is_some(), listed);
    }
}
