//! Every peer: is it reached through the overlay, how fast, with how long packets, with what loss?
//!
//! The probes are ICMP echo requests to the peer's flannel0, the network address of its lease. They
//! are ordinary inner packets, which stock flanneld carries and its host's kernel answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt, stream};

use super::echo::{Echo, EchoOutcome, IcmpError};
use super::facts::HostFacts;
use super::finding::Finding;
use crate::packet::icmpv4::kind;
use crate::packet::wire::OVERHEAD;
use crate::subnet::admin::Holding;
use crate::sys::udp;

/// Probes the chosen peers until `end`.
pub(super) async fn check(facts: &HostFacts<'_>, end: Instant) -> Vec<Finding> {
    let chosen: Vec<&Holding> = facts
        .peers
        .iter()
        .copied()
        .filter(|peer| facts.args.peers.includes(peer.public_ip, peer.subnet))
        .filter(|peer| peer.backend_type.as_deref().is_none_or(|k| k.eq_ignore_ascii_case("udp")))
        .collect();
    if chosen.is_empty() {
        return match facts.args.peers {
            super::PeerChoice::None => vec![],
            _ => vec![Finding::note("peers", "none is known: no other host holds a lease")],
        };
    }
    let echo = match Echo::open() {
        Ok(echo) => echo,
        Err(error) => {
            let text = format!("not probed: no raw socket for ICMP: {error}");
            let remedy = "run as root or with CAP_NET_RAW";
            return vec![Finding::note("peers", text).remedy(remedy)];
        }
    };
    let probes = stream::iter(chosen).map(|peer| probe(facts, &echo, peer, end));
    probes.buffered(PEERS_AT_ONCE).concat().await
}

async fn probe(facts: &HostFacts<'_>, echo: &Echo, peer: &Holding, end: Instant) -> Vec<Finding> {
    let check = format!("{} ({})", peer.public_ip, peer.subnet);
    if Instant::now() + PEER_TIME_LIMIT > end {
        let note = Finding::note(check, "not probed: the time was over");
        return vec![note.remedy("flannel-udp doctor --timeout=60, or --peers=LIST")];
    }
    let target = peer.subnet.network();
    if facts.tun().is_none() {
        let underlay = underlay(echo, peer.public_ip).await;
        let text =
            format!("not probed through the overlay: this needs the daemon here; {underlay}");
        return vec![Finding::note(check, text)];
    }
    let rounds = join_all((0..ECHOES_PER_PEER).map(async |number: u32| {
        tokio::time::sleep(ECHO_INTERVAL * number).await;
        echo.ping(target, ECHO_LEN, ECHO_TIMEOUT).await
    }));
    let answers = rounds.await;
    let mut times: Vec<Duration> = answers
        .iter()
        .filter_map(|answer| match answer {
            Ok(EchoOutcome::Reply(time)) => Some(*time),
            _ => None,
        })
        .collect();
    times.sort();
    if times.is_empty() {
        return vec![diagnose_silence(facts, echo, peer, &check, answers.first()).await];
    }
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let text = format!(
        "{} of {ECHOES_PER_PEER} echoes to {target} answered through the overlay; round trip {:.2} ms, \
         at most {:.2} ms",
        times.len(),
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1])
    );
    let lost = ECHOES_PER_PEER as usize - times.len();
    let reach = match lost {
        0 => Finding::ok(&check, text),
        _ => Finding::warning(
            &check,
            format!("{text}; {} % lost", lost * 100 / ECHOES_PER_PEER as usize),
        )
        .remedy(format!(
            "compare with ping -c 100 {} on the underlay; look at the drops of both daemons: \
                 flannel-udp status",
            peer.public_ip
        )),
    };
    vec![reach, path_mtu(facts, echo, peer, &check).await]
}

/// Finds the longest packet that comes back, by rounds of ever narrower steps.
async fn path_mtu(facts: &HostFacts<'_>, echo: &Echo, peer: &Holding, check: &str) -> Finding {
    let check = format!("{check} MTU");
    let target = peer.subnet.network();
    let full = facts.tun().map_or(ECHO_LEN, |tun| tun.mtu as usize);
    // Twice: the first may be lost to the discovery of the path's MTU itself.
    for _ in 0..2 {
        if comes_back(echo, target, full).await {
            return full_packets_pass(facts, peer, &check, full);
        }
    }
    let (mut good, mut bad) = (ECHO_LEN, full);
    while bad - good > 1 {
        let step = ((bad - good) / SIZES_PER_ROUND).max(1);
        let sizes: Vec<usize> = (good + step..bad).step_by(step).collect();
        let outcomes = join_all(sizes.iter().map(|size| comes_back(echo, target, *size))).await;
        let passed = sizes.iter().zip(outcomes).filter(|(_, ok)| *ok).map(|(size, _)| *size).max();
        good = passed.unwrap_or(good);
        bad = sizes.into_iter().find(|size| *size > good).unwrap_or(bad);
    }
    Finding::fault(
        check,
        format!(
            "packets of up to {good} bytes come back, those of {full} (the overlay's MTU) do not: \
             connections open and then hang. Some link on the way bears only {} bytes",
            good + OVERHEAD
        ),
    )
    .remedy(format!(
        "raise the MTU of that link, or lower the interface's on every host: \
         ip link set {} mtu {}; the daemon follows, containers must be started anew",
        facts.interface.as_ref().map_or("eth0", |interface| interface.name.as_str()),
        good + OVERHEAD
    ))
}

/// Full packets pass; but perhaps in pieces.
fn full_packets_pass(facts: &HostFacts<'_>, peer: &Holding, check: &str, full: usize) -> Finding {
    let outer = full + OVERHEAD;
    match known_path_mtu(facts, peer.public_ip) {
        Ok(path) if (path as usize) < outer => Finding::warning(
            check,
            format!(
                "packets of {full} bytes pass, but in fragments: the kernel knows a path MTU of \
                 {path} to {}, and a full datagram has {outer}",
                peer.public_ip
            ),
        )
        .remedy(format!(
            "raise that link's MTU, or lower the interface's on every host to {path}: the daemon \
             follows"
        )),
        _ => Finding::ok(check, format!("packets of {full} bytes pass, the overlay's MTU")),
    }
}

fn known_path_mtu(facts: &HostFacts<'_>, peer: Ipv4Addr) -> io::Result<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(SocketAddr::from((peer, facts.port())))?;
    udp::path_mtu(&socket)
}

async fn comes_back(echo: &Echo, to: Ipv4Addr, len: usize) -> bool {
    matches!(echo.ping(to, len, SIZE_TIMEOUT).await, Ok(EchoOutcome::Reply(_)))
}

/// No answer through the overlay: how far does a packet get?
async fn diagnose_silence(
    facts: &HostFacts<'_>,
    echo: &Echo,
    peer: &Holding,
    check: &str,
    first: Option<&io::Result<EchoOutcome>>,
) -> Finding {
    let (host, port) = (peer.public_ip, facts.port());
    if let Some(Err(error)) = first {
        let text = format!("this kernel does not send to {}: {error}", peer.subnet);
        return Finding::fault(check, text).remedy("see the device and its route above");
    }
    if let Some(IcmpError { kind: kind::UNREACHABLE, code, by }) = echo.last_error(host, port) {
        return match code {
            3 => Finding::fault(
                check,
                format!("{by} answers that nobody listens on UDP {port}: no daemon runs there"),
            )
            .remedy(format!("on {host}: systemctl start flannel-udp; or its firewall rejects")),
            9 | 10 | 13 => {
                let text = format!("a firewall at {by} rejects UDP {port}");
                Finding::fault(check, text).remedy(accept(host, port))
            }
            _ => Finding::fault(
                check,
                format!("{host} does not answer at all; {by} says that it cannot be reached"),
            )
            .remedy(format!("ping {host}; ip route get {host}; is that host up?")),
        };
    }
    if let Some(Ok(EchoOutcome::Error(IcmpError { by, kind, .. }))) = first {
        let text = match *kind {
            kind::TIME_EXCEEDED => format!("{by} says that the packet goes round in a circle"),
            _ => format!(
                "{by} says that {} cannot be reached: the daemon has no route to it",
                peer.subnet
            ),
        };
        return Finding::fault(check, text)
            .remedy("flannel-udp routes; journalctl -u flannel-udp; is the registry reachable?");
    }
    match underlay(echo, host).await {
        UnderlayPing::Answers(_) => Finding::fault(
            check,
            format!(
                "{host} answers pings, but nothing comes back through the overlay: UDP {port} is \
                 dropped by a firewall, or its daemon hangs or has no route back"
            ),
        )
        .remedy(accept(host, port)),
        UnderlayPing::Silent => {
            let text = format!("{host} does not answer at all: host or network down");
            Finding::fault(check, text).remedy(format!("ping {host}; ip route get {host}"))
        }
    }
}

fn accept(host: Ipv4Addr, port: u16) -> String {
    format!(
        "on {host}: flannel-udp doctor; iptables -I INPUT -p udp --dport {port} -j ACCEPT; and on \
         every firewall between"
    )
}

enum UnderlayPing {
    Answers(Duration),
    Silent,
}

async fn underlay(echo: &Echo, host: Ipv4Addr) -> UnderlayPing {
    let asked = join_all((0..3).map(|_| echo.ping(host, ECHO_LEN, ECHO_TIMEOUT))).await;
    let answered = asked.into_iter().find_map(|answer| match answer {
        Ok(EchoOutcome::Reply(time)) => Some(time),
        _ => None,
    });
    answered.map_or(UnderlayPing::Silent, UnderlayPing::Answers)
}

impl std::fmt::Display for UnderlayPing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answers(time) => {
                write!(f, "the host answers pings in {:.2} ms", time.as_secs_f64() * 1000.0)
            }
            Self::Silent => f.write_str("the host does not answer pings"),
        }
    }
}

/// Peers that are probed at once.
const PEERS_AT_ONCE: usize = 64;
/// Small echoes to each.
const ECHOES_PER_PEER: u32 = 10;
/// Between two of them.
const ECHO_INTERVAL: Duration = Duration::from_millis(40);
/// How long a small echo is waited for.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one of many sizes is waited for.
const SIZE_TIMEOUT: Duration = Duration::from_millis(400);
/// Bytes of a small echo, headers included, as of `ping`.
const ECHO_LEN: usize = 84;
/// Sizes tried at once.
const SIZES_PER_ROUND: usize = 16;
/// The most that one peer takes: echoes, two full ones and three rounds of sizes, or the underlay.
const PEER_TIME_LIMIT: Duration = Duration::from_millis(3500);
