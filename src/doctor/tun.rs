//! The TUN device and the kernel's features, each tried with the calls that the data path makes.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use caps::{CapSet, Capability};

use super::finding::Finding;
use crate::sys::mmsg::{RecvBatch, SendBatch};
use crate::sys::netns::Netns;
use crate::sys::steering::{self, Lanes};
use crate::sys::tun::{Offload, TunQueue};
use crate::sys::udp;

/// Checks capabilities, the TUN device node and every kernel feature.
pub(super) fn check() -> Vec<Finding> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![Finding::ok("kernel", format!("Linux {}", release.trim()))];
    findings.extend([
        capability(
            Capability::CAP_NET_ADMIN,
            "is needed for the TUN device, its address and route, and the firewall rules",
        ),
        capability(Capability::CAP_NET_RAW, "is needed for this command's own probes of the peers"),
    ]);
    let (device, opens) = device();
    findings.push(device);
    if opens {
        findings.extend(tun_features());
    }
    findings.extend(socket_features());
    findings
}

fn capability(wanted: Capability, what: &str) -> Finding {
    let name = wanted.to_string();
    match caps::has_cap(None, CapSet::Effective, wanted) {
        Ok(true) => Finding::ok(name, "this command has it"),
        Ok(false) => Finding::warning(
            &name,
            format!("this command lacks it ({name} {what}); the daemon may have it"),
        )
        .remedy(
            "run doctor as root; for the daemon: User=root or AmbientCapabilities= in its unit, \
             --cap-add in a container",
        ),
        Err(error) => Finding::note(name, format!("not checked: {error}")),
    }
}

/// Checks the device node. A missing node, a missing driver and a missing permission have different
/// remedies. The flag says whether the node can be opened.
fn device() -> (Finding, bool) {
    let opened = File::options().read(true).write(true).open(NODE);
    let fault = |text: String, remedy: &str| (Finding::fault(NODE, text).remedy(remedy), false);
    let error = match opened {
        Ok(mut file) => {
            // EBADFD is what `cat /dev/net/tun` prints on a healthy host, and is often taken for a
            // fault.
            let text = match file.read(&mut [0; 1]) {
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    format!(
                        "opens; a read fails with {error:?}, as it should",
                        error = error.to_string()
                    )
                }
                other => format!("opens (a read returns {other:?})"),
            };
            return (Finding::ok(NODE, text), true);
        }
        Err(error) => error,
    };
    let module = Path::new("/sys/module/tun").exists()
        || std::fs::read_to_string("/proc/misc").is_ok_and(|misc| misc.contains(" tun\n"));
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) if module => fault(
            "the device node is missing, the driver is loaded".into(),
            "mkdir -p /dev/net && mknod /dev/net/tun c 10 200 (in a container: --device /dev/net/tun)",
        ),
        (io::ErrorKind::NotFound, _) => fault(
            "the device node is missing, and the kernel has no tun driver loaded".into(),
            "modprobe tun (on the machine itself, if this is a container)",
        ),
        (_, Some(libc::ENODEV | libc::ENXIO)) => {
            fault("the device node exists, the driver is not loaded".into(), "modprobe tun")
        }
        (io::ErrorKind::PermissionDenied, Some(libc::EPERM)) => fault(
            "cannot be opened: the container's device rules forbid it".into(),
            "start the container with --device /dev/net/tun --cap-add NET_ADMIN",
        ),
        (io::ErrorKind::PermissionDenied, _) => fault(
            "cannot be opened by this user".into(),
            "run as root, or chmod 666 /dev/net/tun (a device still needs CAP_NET_ADMIN)",
        ),
        _ => fault(format!("cannot be opened: {error}"), "modprobe tun"),
    }
}

/// Tries the TUN features in a new network namespace, so that no program on the host sees the probe
/// devices appear and vanish.
fn tun_features() -> Vec<Finding> {
    match Netns::anonymous().and_then(|netns| netns.enter(probe_tun)) {
        Ok(findings) => findings,
        Err(error) => vec![Finding::note(
            "TUN features",
            format!("not checked: cannot create a network namespace to try them in: {error}"),
        )],
    }
}

fn probe_tun() -> Vec<Finding> {
    let mut findings = Vec::new();
    let vnet = TunQueue::attach("probe%d", false, true).map(|(queue, _)| queue);
    let plain = || TunQueue::attach("probe%d", false, false).map(drop);
    let on = |offload: Offload| match &vnet {
        Ok(queue) => queue.set_offload(offload),
        Err(_) => Err(io::Error::other("needs vnet")),
    };
    let tso = Offload { csum: true, tso: true, uso: false };
    let tun = vnet.as_ref().map(drop).or_else(|_| {
        plain().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot create a TUN device: {error}"))
        })
    });
    if let Err(error) = tun {
        let fault = Finding::fault("TUNSETIFF", error.to_string());
        return vec![fault.remedy("run as root or with CAP_NET_ADMIN")];
    }
    findings.push(feature("IFF_VNET_HDR (vnet)", vnet.as_ref().map(drop).map_err(text), VNET));
    findings.push(feature("TSO on the TUN (vnet)", on(tso).map_err(|e| text(&e)), TSO));
    let uso = on(Offload { uso: true, ..tso });
    findings.push(feature("USO on the TUN (uso, udp-coalesce)", uso.map_err(|e| text(&e)), USO));
    let queue = TunQueue::attach("queue%d", true, false).map(|(queue, _)| queue);
    findings.push(feature("IFF_MULTI_QUEUE", queue.as_ref().map(drop).map_err(text), QUEUES));
    if let Ok(queue) = queue {
        let steered = steering::by_header(&queue, Lanes::OnePair);
        findings.push(feature("TUNSETSTEERINGEBPF", steered.map_err(|e| text(&e)), STEERING));
    }
    findings
}

fn socket_features() -> Vec<Finding> {
    let socket = match udp::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), false) {
        Ok(socket) => socket,
        Err(error) => return vec![Finding::note("UDP features", format!("not checked: {error}"))],
    };
    let segment =
        if udp::has_segment(&socket) { Ok(()) } else { Err("setsockopt rejects it".to_owned()) };
    let gro = udp::set_gro(&socket, true).map_err(|error| text(&error));
    vec![
        feature("UDP_SEGMENT (gso)", segment, GSO),
        feature("UDP_GRO (gro)", gro, GRO),
        feature("sendmmsg and recvmmsg (batch)", batch(&socket).map_err(|e| text(&e)), BATCH),
    ]
}

/// Sends two datagrams with one call and receives them with another.
fn batch(socket: &std::net::UdpSocket) -> io::Result<()> {
    let std::net::SocketAddr::V4(own) = socket.local_addr()? else {
        return Err(io::Error::other("no IPv4 address"));
    };
    let mut batch = SendBatch::new(2, 2, true);
    let mut filling = batch.begin();
    for part in [b"a", b"b"] {
        filling.open(own, None);
        filling.push(part);
    }
    let sent = filling.send(socket, 0)?;
    socket.set_nonblocking(true)?;
    let received = RecvBatch::new(2, true).receive(socket, 2)?;
    match (sent, received) {
        (2, 1..) => Ok(()),
        (sent, received) => Err(io::Error::other(format!("{sent} sent, {received} received"))),
    }
}

fn text(error: &io::Error) -> String {
    error.to_string()
}

fn feature(name: &str, outcome: Result<(), String>, cost: &str) -> Finding {
    match outcome {
        Ok(()) => Finding::ok(name, "supported by the kernel"),
        Err(error) => Finding::note(name, format!("the kernel rejects it ({error}): {cost}"))
            .remedy("a newer kernel; the daemon works without it"),
    }
}

const NODE: &str = "/dev/net/tun";
const VNET: &str = "one packet per system call on the TUN device, no coalescing: TCP is several times \
                    slower, as with stock flannel";
const TSO: &str = "TCP leaves the containers in single packets instead of 64 KiB";
const USO: &str = "UDP passes the TUN device in single packets (needs Linux 6.2)";
const QUEUES: &str = "more than one worker is not possible: use --workers=1; a ping or a DNS reply \
                      waits behind bulk TCP";
const STEERING: &str = "a ping or a DNS reply may wait behind bulk TCP, and with several workers a UDP \
                        flow may change its queue once (needs Linux 4.16, and root or CAP_BPF)";
const GSO: &str = "one datagram per message instead of up to 64: more CPU per packet sent (needs \
                   Linux 4.18)";
const GRO: &str = "one datagram per message on arrival: more CPU per packet received (needs Linux \
                   5.0)";
const BATCH: &str = "one packet per system call";
