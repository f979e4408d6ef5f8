//! The TUN device and the kernel's features, each tried with the calls that the data path makes.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use caps::{CapSet, Capability};

use super::finding::Finding;
use crate::dataplane::{Description, Feature};
use crate::sys::netns::Netns;
use crate::sys::steering::{self, Lanes};
use crate::sys::tun::{NODE, Offload, TunQueue};
use crate::sys::udp;

/// Checks capabilities, the TUN device node and every kernel feature. A daemon that is `running` reports itself
/// whether packets are steered: it may lack a privilege that this process has.
pub(super) fn check(running: bool) -> Vec<Finding> {
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
        findings.extend(tun_features(running));
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
                        "opens; a read fails with {error:?}, as expected",
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
            "the device node is missing, but the driver is loaded".into(),
            "`mkdir -p /dev/net && mknod /dev/net/tun c 10 200`, as the daemon does at startup if it has \
             CAP_MKNOD; in a container: --device /dev/net/tun",
        ),
        (io::ErrorKind::NotFound, _) => fault(
            "the device node is missing, and the kernel has no tun driver loaded".into(),
            "`modprobe tun`, on the machine itself if this is a container",
        ),
        (_, Some(libc::ENODEV | libc::ENXIO)) => {
            fault("the device node exists, but the driver is not loaded".into(), "`modprobe tun`")
        }
        (io::ErrorKind::PermissionDenied, Some(libc::EPERM)) => fault(
            "cannot be opened: the container's device rules forbid it".into(),
            "start the container with --device /dev/net/tun --cap-add NET_ADMIN",
        ),
        (io::ErrorKind::PermissionDenied, _) => fault(
            "cannot be opened by this user".into(),
            "run as root, or `chmod 666 /dev/net/tun` (creating a device still needs CAP_NET_ADMIN)",
        ),
        _ => fault(format!("cannot be opened: {error}"), "`modprobe tun`"),
    }
}

/// Tries the TUN features in a new network namespace, so that no program on the host sees the probe
/// devices appear and vanish.
fn tun_features(running: bool) -> Vec<Finding> {
    match Netns::anonymous().and_then(|netns| netns.enter(|| probe_tun(running))) {
        Ok(findings) => findings,
        Err(error) => vec![Finding::note(
            "TUN features",
            format!("not checked: cannot create a network namespace to try them in: {error}"),
        )],
    }
}

fn probe_tun(running: bool) -> Vec<Finding> {
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
    findings.push(finding(
        "IFF_VNET_HDR (vnet)",
        vnet.as_ref().map(drop).map_err(text),
        &Feature::Vnet.cost(),
    ));
    findings.push(finding("TSO on the TUN (vnet)", on(tso).map_err(|e| text(&e)), TSO));
    let uso = on(Offload { uso: true, ..tso });
    findings.push(finding(
        "USO on the TUN (uso, udp-coalesce)",
        uso.map_err(|e| text(&e)),
        &Feature::Uso.cost(),
    ));
    let queue = TunQueue::attach("queue%d", true, false).map(|(queue, _)| queue);
    findings.push(finding("IFF_MULTI_QUEUE", queue.as_ref().map(drop).map_err(text), QUEUES));
    if let (Ok(queue), false) = (queue, running) {
        let steered = steering::by_header(&queue, Lanes::OnePair);
        findings.push(finding("TUNSETSTEERINGEBPF", steered.map_err(|e| text(&e)), STEERING));
    }
    findings
}

fn socket_features() -> Vec<Finding> {
    let socket = match udp::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), false) {
        Ok(socket) => socket,
        Err(error) => return vec![Finding::note("UDP features", format!("not checked: {error}"))],
    };
    let outcome = |feature: Feature| Some((feature, feature.probe_socket(&socket)?));
    Feature::ALL
        .into_iter()
        .filter_map(outcome)
        .map(|(feature, outcome)| {
            let Description { name, uses, .. } = feature.description();
            let name = format!("{} ({name})", uses.replace('`', ""));
            finding(&name, outcome, &feature.cost())
        })
        .collect()
}

fn text(error: &io::Error) -> String {
    error.to_string()
}

fn finding(name: &str, outcome: Result<(), String>, cost: &str) -> Finding {
    match outcome {
        Ok(()) => Finding::ok(name, "supported by the kernel"),
        Err(error) => Finding::note(name, format!("the kernel rejects it ({error}): {cost}"))
            .remedy("a newer kernel; the daemon works without it"),
    }
}

const TSO: &str = "TCP leaves the containers in single packets instead of 64 KiB";
const QUEUES: &str = "only one worker is possible: use --workers=1; a ping or a DNS reply \
                      waits behind bulk TCP";
const STEERING: &str = "a ping or a DNS reply may wait behind bulk TCP, and with several workers a UDP \
                        flow may change its queue once (needs Linux 4.16, and root or CAP_BPF)";
