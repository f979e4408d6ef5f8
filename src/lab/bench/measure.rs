//! The measures, and how one sample of each is taken.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cpu::{Reading, Used};
use super::mode::Stage;
use crate::lab::traffic::{
    Agent, ECHO_PORT, EchoReport, Percentiles, SINK_PORT, SinkReport, TcpReport, UdpReport,
};
use crate::lab::{LabError, interrupt};

/// Something to measure between the two containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Measure {
    /// One bulk TCP stream.
    Tcp1,
    /// Four bulk TCP streams.
    Tcp4,
    /// One bulk TCP stream the other way.
    Tcp1r,
    /// One bulk TCP stream each way at once, added up.
    TcpBoth,
    /// UDP packets of 18 bytes, the smallest Ethernet frame.
    Pps18,
    /// UDP packets of 64 bytes.
    Pps64,
    /// UDP packets that fill the MTU of every mode.
    PpsFull,
    /// The highest rate of 18-byte UDP packets of which at most one in a thousand is lost.
    Lossless,
    /// Round trip of 64-byte UDP, one in flight.
    Rr,
    /// The same beside one bulk TCP stream.
    RrLoad,
    /// What the daemons use when nothing moves.
    Idle,
    /// One bulk TCP stream, measured by iperf3.
    Iperf3,
}

/// One sample.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Sample {
    /// In the measure's unit.
    pub(super) value: f64,
    /// Processor seconds per gigabyte, or microseconds per packet or round trip; both ends, both
    /// tunnels and the kernel together.
    pub(super) cpu: f64,
    /// The same, of the lab's own processes and the kernel's softirq threads only.
    pub(super) own_cpu: f64,
    /// Processors in use on average, by thread of the carrying processes.
    pub(super) threads: BTreeMap<String, f64>,
    /// System calls that moved packets, per inner packet, over both directions and both ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls_per_packet: Option<f64>,
    /// Share of what was sent that did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<f64>,
    /// Share of what was sent that the sink's own receive buffer had no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overflow: Option<f64>,
    /// Share of one processor that the generator used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generator: Option<f64>,
    /// Round-trip times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) times: Option<Percentiles>,
    /// Requests without an answer within 200 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unanswered: Option<u64>,
    /// Gigabits a second of the bulk stream beside the round trips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) beside: Option<f64>,
    /// Packets that arrived after a later one of their flow.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) disordered: u64,
}

/// How long the phases of a sample last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
}

impl Measure {
    pub(super) const ALL: [Self; 11] = [
        Self::Tcp1,
        Self::Tcp4,
        Self::Tcp1r,
        Self::TcpBoth,
        Self::Pps18,
        Self::Pps64,
        Self::PpsFull,
        Self::Lossless,
        Self::Rr,
        Self::RrLoad,
        Self::Idle,
    ];

    /// What `--only` and the tables call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp1",
            Self::Tcp4 => "tcp4",
            Self::Tcp1r => "tcp1r",
            Self::TcpBoth => "tcpboth",
            Self::Pps18 => "pps18",
            Self::Pps64 => "pps64",
            Self::PpsFull => "ppsfull",
            Self::Lossless => "lossless",
            Self::Rr => "rr",
            Self::RrLoad => "rrload",
            Self::Idle => "idle",
            Self::Iperf3 => "iperf3",
        }
    }

    /// The measures that one word of `--only` means: a name, or the beginning of several.
    pub(super) fn matching(word: &str) -> Vec<Self> {
        let exact: Vec<Self> = Self::ALL.into_iter().filter(|m| m.name() == word).collect();
        match word {
            "pps" => vec![Self::Pps18],
            _ if exact.is_empty() => {
                Self::ALL.into_iter().filter(|m| m.name().starts_with(word)).collect()
            }
            _ => exact,
        }
    }

    /// Unit of a sample's value.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Tcp1 | Self::Tcp4 | Self::Tcp1r | Self::TcpBoth | Self::Iperf3 => "Gbit/s",
            Self::Pps18 | Self::Pps64 | Self::PpsFull | Self::Lossless => "packets/s",
            Self::Rr => "µs, p50",
            Self::RrLoad => "µs, p99",
            Self::Idle => "ms CPU/s",
        }
    }

    /// Unit of a sample's processor time.
    pub(super) fn cpu_unit(self) -> &'static str {
        match self {
            Self::Tcp1 | Self::Tcp4 | Self::Tcp1r | Self::TcpBoth | Self::Iperf3 => "CPU s/GB",
            Self::Pps18 | Self::Pps64 | Self::PpsFull | Self::Lossless => "CPU µs/packet",
            Self::Rr | Self::RrLoad => "CPU µs/round trip",
            Self::Idle => "CPU s/s",
        }
    }

    /// Takes one sample.
    pub(super) fn sample(self, stage: &mut Stage, pace: Pace) -> Result<Sample, LabError> {
        stage.sources.clear();
        match self {
            Self::Tcp1 => bulk(stage, pace, &[(0, 1)]),
            Self::Tcp4 => bulk(stage, pace, &[(0, 4)]),
            Self::Tcp1r => bulk(stage, pace, &[(1, 1)]),
            Self::TcpBoth => bulk(stage, pace, &[(0, 1), (1, 1)]),
            Self::Pps18 => blast(stage, pace, 18),
            Self::Pps64 => blast(stage, pace, 64),
            Self::PpsFull => {
                let size = full_size(stage.lab.mtu());
                blast(stage, pace, size)
            }
            Self::Lossless => lossless(stage, pace),
            Self::Rr => round_trips(stage, pace, false),
            Self::RrLoad => round_trips(stage, pace, true),
            Self::Idle => idle(stage, pace),
            Self::Iperf3 => super::iperf3::sample(stage, pace),
        }
    }
}

/// Bytes of UDP payload that fit each mode's MTU with a little to spare, so that all modes carry
/// the same: 1,400 at MTU 1500.
pub(super) fn full_size(mtu: u32) -> u32 {
    mtu - 100
}

/// Bulk TCP from each of `flows`: (sending host, streams).
fn bulk(stage: &mut Stage, pace: Pace, flows: &[(usize, usize)]) -> Result<Sample, LabError> {
    let mut sources = Vec::new();
    for (from, streams) in flows {
        let words = format!("tcp --to {} --streams {streams}", target(stage, *from, SINK_PORT));
        sources.push(start(stage, *from, &words)?);
    }
    let (before, after, used, calls) = window(stage, pace)?;
    for source in &mut sources {
        let report: TcpReport = source.report()?;
        if let Some(error) = report.errors.first() {
            return Err(LabError::Unusable(format!("{}: {error}", stage.mode.name)));
        }
    }
    let bytes: u64 = (0..2).map(|n| after[n].tcp_bytes - before[n].tcp_bytes).sum();
    let rate: f64 =
        (0..2).map(|n| rate(&before[n], &after[n], |r| r.tcp_bytes)).sum::<f64>() * 8.0 / 1e9;
    Ok(Sample {
        value: rate,
        cpu: per(used.busy, bytes as f64 / 1e9),
        own_cpu: per(used.own, bytes as f64 / 1e9),
        threads: shares(&used),
        calls_per_packet: calls,
        ..Sample::default()
    })
}

/// UDP as fast as one generator can.
fn blast(stage: &mut Stage, pace: Pace, size: u32) -> Result<Sample, LabError> {
    let words = format!("udp --to {} --size {size}", target(stage, 0, SINK_PORT));
    let mut source = start(stage, 0, &words)?;
    interrupt::sleep(pace.warm_up)?;
    let sent_before: UdpReport = source.report()?;
    let generator = Reading::take(&[source.pid()], &[]);
    let now = Pace { warm_up: Duration::ZERO, ..pace };
    let (before, after, used, calls) = window(stage, now)?;
    let generator = generator.until(&Reading::take(&[source.pid()], &[]));
    let sent_after: UdpReport = source.report()?;
    let sent = (sent_after.sent - sent_before.sent) as f64
        / (sent_after.at_ns - sent_before.at_ns) as f64
        * 1e9;
    let received = after[1].udp_packets - before[1].udp_packets;
    let value = rate(&before[1], &after[1], |r| r.udp_packets);
    Ok(Sample {
        value,
        cpu: per(used.busy * 1e6, received as f64),
        own_cpu: per(used.own * 1e6, received as f64),
        threads: shares(&used),
        calls_per_packet: calls,
        loss: Some((1.0 - value / sent).max(0.0)),
        overflow: Some(rate(&before[1], &after[1], |r| r.udp_overflowed) / sent),
        generator: Some(generator.threads.values().sum::<f64>() / generator.elapsed),
        disordered: after[1].udp_disordered - before[1].udp_disordered,
        ..Sample::default()
    })
}

/// Searches the highest rate without loss by halving.
fn lossless(stage: &mut Stage, pace: Pace) -> Result<Sample, LabError> {
    let (mut low, mut high) = (0, FASTEST);
    let mut best = Sample::default();
    for _ in 0..HALVINGS {
        let rate = (low + high) / 2;
        let before = Reading::take(&stage.carriers(), &stage.agents());
        let (sent, received, seconds) = trial(stage, rate, pace.window.min(TRIAL))?;
        let used = before.until(&Reading::take(&stage.carriers(), &stage.agents()));
        // A generator that cannot keep the pace has not tried that rate.
        let kept_pace = sent as f64 >= rate as f64 * seconds * 0.95;
        if kept_pace && received as f64 >= sent as f64 * (1.0 - TOLERATED_LOSS) {
            low = rate;
            best = Sample {
                value: received as f64 / seconds,
                cpu: per(used.busy * 1e6, received as f64),
                // Each trial's generator is gone before its time can be read.
                own_cpu: f64::NAN,
                threads: shares(&used),
                loss: Some(1.0 - received as f64 / sent as f64),
                ..Sample::default()
            };
        } else {
            high = rate;
        }
    }
    Ok(best)
}

/// Sends at `rate` for a while; packets sent and received, and the seconds it took to send them.
fn trial(stage: &mut Stage, rate: u64, length: Duration) -> Result<(u64, u64, f64), LabError> {
    let before: SinkReport = stage.sinks[1].report()?;
    let words = format!("udp --to {} --size 18 --rate {rate}", target(stage, 0, SINK_PORT));
    let mut source = start(stage, 0, &words)?;
    interrupt::sleep(length)?;
    let stopped: UdpReport = source.stop()?;
    interrupt::sleep(DRAIN)?;
    let sent: UdpReport = source.report()?;
    let after: SinkReport = stage.sinks[1].report()?;
    Ok((sent.sent, after.udp_packets - before.udp_packets, stopped.at_ns as f64 / 1e9))
}

/// Requests one after another, alone or beside a bulk stream.
fn round_trips(stage: &mut Stage, pace: Pace, loaded: bool) -> Result<Sample, LabError> {
    let load = match loaded {
        true => {
            let words = format!("tcp --to {}", target(stage, 0, SINK_PORT));
            Some(start(stage, 0, &words)?)
        }
        false => None,
    };
    let words = format!("echo --to {}", target(stage, 0, ECHO_PORT));
    let mut client = start(stage, 0, &words)?;
    interrupt::sleep(pace.warm_up)?;
    let _: EchoReport = client.mark()?;
    let now = Pace { warm_up: Duration::ZERO, ..pace };
    let (before, after, used, calls) = window(stage, now)?;
    let seen: EchoReport = client.report()?;
    drop(load);
    Ok(Sample {
        value: if loaded { seen.times.p99 } else { seen.times.p50 },
        cpu: per(used.busy * 1e6, seen.answered as f64),
        own_cpu: per(used.own * 1e6, seen.answered as f64),
        threads: shares(&used),
        calls_per_packet: calls,
        times: Some(seen.times),
        unanswered: Some(seen.lost),
        beside: loaded.then(|| rate(&before[1], &after[1], |r| r.tcp_bytes) * 8.0 / 1e9),
        ..Sample::default()
    })
}

/// Nothing but time.
fn idle(stage: &mut Stage, pace: Pace) -> Result<Sample, LabError> {
    let (_, _, used, _) = window(stage, pace)?;
    Ok(Sample {
        value: used.threads.values().fold(0.0, |sum, seconds| sum + seconds) / used.elapsed * 1e3,
        cpu: used.busy / used.elapsed,
        own_cpu: used.own / used.elapsed,
        threads: shares(&used),
        ..Sample::default()
    })
}

type Window = ([SinkReport; 2], [SinkReport; 2], Used, Option<f64>);

/// Warms up, then reads everything at both ends of the window.
fn window(stage: &mut Stage, pace: Pace) -> Result<Window, LabError> {
    interrupt::sleep(pace.warm_up)?;
    let carriers = stage.carriers();
    let calls = super::calls::Calls::read(stage);
    let before = reports(stage)?;
    let agents = stage.agents();
    let started = Reading::take(&carriers, &agents);
    interrupt::sleep(pace.window)?;
    let after = reports(stage)?;
    let used = started.until(&Reading::take(&carriers, &agents));
    let calls = calls.zip(super::calls::Calls::read(stage)).map(|(a, b)| b.per_packet_since(a));
    Ok((before, after, used, calls.flatten()))
}

fn reports(stage: &mut Stage) -> Result<[SinkReport; 2], LabError> {
    Ok([stage.sinks[0].report()?, stage.sinks[1].report()?])
}

fn start(stage: &mut Stage, from: usize, words: &str) -> Result<Agent, LabError> {
    let place = stage.lab.host(from).container().netns();
    let agent = Agent::start(&stage.lab.binary()?, place, words)?;
    stage.sources.push(agent.pid());
    Ok(agent)
}

/// The sink's address as seen by the container of host `from`.
fn target(stage: &Stage, from: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address(stage, 1 - from), port)
}

pub(super) fn address(stage: &Stage, host: usize) -> Ipv4Addr {
    stage.lab.host(host).container().address()
}

fn rate(before: &SinkReport, after: &SinkReport, count: impl Fn(&SinkReport) -> u64) -> f64 {
    (count(after) - count(before)) as f64 / (after.at_ns - before.at_ns) as f64 * 1e9
}

fn shares(used: &Used) -> BTreeMap<String, f64> {
    used.threads.iter().map(|(name, seconds)| (name.clone(), seconds / used.elapsed)).collect()
}

fn per(amount: f64, count: f64) -> f64 {
    if count > 0.0 { amount / count } else { f64::NAN }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Where the search for the lossless rate starts, in packets a second.
const FASTEST: u64 = 800_000;
const HALVINGS: u32 = 9;
const TRIAL: Duration = Duration::from_millis(400);
const TOLERATED_LOSS: f64 = 0.001;

/// Until the last packet has arrived.
const DRAIN: Duration = Duration::from_millis(60);
