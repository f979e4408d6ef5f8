//! The TUN device and the kernel's features, each asked for as the data path asks.

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

/// Asks for everything in turn.
pub(super) fn check() -> Vec<Finding> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![Finding::ok("kernel", format!("Linux {}", release.trim()))];
    findings.extend([
        capability(
            Capability::CAP_NET_ADMIN,
            "makes the TUN device, its address and route, and the firewall rules",
        ),
        capability(Capability::CAP_NET_RAW, "is for this command's own probes of the peers"),
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

/// Node, module and permission are three troubles with three cures.
fn device() -> (Finding, bool) {
    let opened = File::options().read(true).write(true).open(NODE);
    let fault = |text: String, remedy: &str| (Finding::fault(NODE, text).remedy(remedy), false);
    let error = match opened {
        Ok(mut file) => {
            // What `cat /dev/net/tun` says on a healthy host, and often is taken for a fault.
            let text = match file.read(&mut [0; 1]) {
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    format!(
                        "opens; a read says {error:?}, the healthy answer",
                        error = error.to_string()
                    )
                }
                other => format!("opens (a read says {other:?})"),
            };
            return (Finding::ok(NODE, text), true);
        }
        Err(error) => error,
    };
    let module = Path::new("/sys/module/tun").exists()
        || std::fs::read_to_string("/proc/misc").is_ok_and(|misc| misc.contains(" tun\n"));
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) if module => fault(
            "the device node is missing, the driver is there".into(),
            "mkdir -p /dev/net && mknod /dev/net/tun c 10 200 (in a container: --device /dev/net/tun)",
        ),
        (io::ErrorKind::NotFound, _) => fault(
            "the device node is missing, and the kernel shows no tun driver".into(),
            "modprobe tun (on the machine itself, if this is a container)",
        ),
        (_, Some(libc::ENODEV | libc::ENXIO)) => {
            fault("the device node is there, the driver is not".into(), "modprobe tun")
        }
        (io::ErrorKind::PermissionDenied, Some(libc::EPERM)) => fault(
            "may not be opened: the container's device rules forbid it".into(),
            "start the container with --device /dev/net/tun --cap-add NET_ADMIN",
        ),
        (io::ErrorKind::PermissionDenied, _) => fault(
            "may not be opened by this user".into(),
            "run as root, or chmod 666 /dev/net/tun (a device still needs CAP_NET_ADMIN)",
        ),
        _ => fault(format!("cannot be opened: {error}"), "modprobe tun"),
    }
}

/// In a network namespace of their own where that is allowed, so that nobody sees them come and go.
fn tun_features() -> Vec<Finding> {
    match Netns::anonymous().and_then(|netns| netns.enter(probe_tun)) {
        Ok(findings) => findings,
        Err(error) => vec![Finding::note(
            "TUN features",
            format!("not checked: no network namespace to try them in: {error}"),
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
            io::Error::new(error.kind(), format!("no TUN device can be made: {error}"))
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
    let segment = match udp::has_segment(&socket) {
        true => Ok(()),
        false => Err("setsockopt refuses it".to_owned()),
    };
    let gro = udp::set_gro(&socket, true).map_err(|error| text(&error));
    vec![
        feature("UDP_SEGMENT (gso)", segment, GSO),
        feature("UDP_GRO (gro)", gro, GRO),
        feature("sendmmsg and recvmmsg (batch)", batch(&socket).map_err(|e| text(&e)), BATCH),
    ]
}

/// Two datagrams out by one call and in by another.
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
        Ok(()) => Finding::ok(name, "the kernel has it"),
        Err(error) => Finding::note(name, format!("the kernel refuses ({error}): {cost}"))
            .remedy("a newer kernel; the daemon works without it"),
    }
}

const NODE: &str = "/dev/net/tun";
const VNET: &str = "one packet a system call to and from the TUN, no joining: TCP is several times \
                    slower, as with stock flannel";
const TSO: &str = "TCP leaves the containers in single packets instead of 64 KiB";
const USO: &str = "UDP goes through the TUN in single packets (Linux 6.2 has it)";
const QUEUES: &str = "more than one worker is not possible: use --workers=1; a ping or a DNS answer \
                      waits behind bulk TCP";
const STEERING: &str = "a ping or a DNS answer waits behind bulk TCP, and with several workers a UDP flow \
                        may change its queue once (Linux 4.16 has it; as root, or with CAP_BPF)";
const GSO: &str = "one datagram a message instead of up to 64: more CPU for each packet sent \
                   (Linux 4.18 has it)";
const GRO: &str = "one datagram a message on arrival: more CPU for each packet received (Linux 5.0 \
                   has it)";
const BATCH: &str = "one packet a system call";
