//! The measures, and how a sample of each is taken.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calls::Calls;
use super::cpu::{Reading, Used};
use super::iperf3;
use super::sample::{BenchSample, Timing};
use super::testbed::Testbed;
use crate::lab::traffic::{
    Agent, ECHO_PORT, EchoReport, SINK_PORT, SinkReport, TcpReport, UdpReport,
};
use crate::lab::{LabError, interrupt};

/// A measure of the traffic between the two containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Measure {
    /// One bulk TCP stream.
    Tcp1,
    /// Four bulk TCP streams.
    Tcp4,
    /// One bulk TCP stream in the other direction.
    Tcp1r,
    /// One bulk TCP stream in each direction at the same time, added.
    TcpBoth,
    /// UDP packets of 18 bytes, the smallest Ethernet frame.
    Pps18,
    /// UDP packets of 64 bytes.
    Pps64,
    /// UDP packets that fill the MTU of every mode.
    PpsFull,
    /// The highest rate of 18-byte UDP packets at which at most one in a thousand is lost.
    Lossless,
    /// Round-trip time of 64-byte UDP packets, one in flight.
    Rr,
    /// [`Self::Rr`] beside one bulk TCP stream.
    RrLoad,
    /// CPU time of the daemons without traffic.
    Idle,
    /// One bulk TCP stream, measured by iperf3.
    Iperf3,
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

    /// Its name in `--only` and in the tables.
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

    /// The measures that one word of `--only` selects: a name, or a prefix of names.
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

    /// Unit of a sample's CPU time.
    pub(super) fn cpu_unit(self) -> &'static str {
        match self {
            Self::Tcp1 | Self::Tcp4 | Self::Tcp1r | Self::TcpBoth | Self::Iperf3 => "CPU s/GB",
            Self::Pps18 | Self::Pps64 | Self::PpsFull | Self::Lossless => "CPU µs/packet",
            Self::Rr | Self::RrLoad => "CPU µs/round trip",
            Self::Idle => "CPU s/s",
        }
    }

    /// Takes one sample.
    pub(super) fn sample(
        self,
        testbed: &mut Testbed,
        timing: Timing,
    ) -> Result<BenchSample, LabError> {
        testbed.sources.clear();
        match self {
            Self::Tcp1 => bulk(testbed, timing, &[(0, 1)]),
            Self::Tcp4 => bulk(testbed, timing, &[(0, 4)]),
            Self::Tcp1r => bulk(testbed, timing, &[(1, 1)]),
            Self::TcpBoth => bulk(testbed, timing, &[(0, 1), (1, 1)]),
            Self::Pps18 => blast(testbed, timing, 18),
            Self::Pps64 => blast(testbed, timing, 64),
            Self::PpsFull => {
                let size = full_size(testbed.lab.mtu());
                blast(testbed, timing, size)
            }
            Self::Lossless => lossless(testbed, timing),
            Self::Rr => round_trips(testbed, timing, false),
            Self::RrLoad => round_trips(testbed, timing, true),
            Self::Idle => idle(testbed, timing),
            Self::Iperf3 => iperf3::sample(testbed, timing),
        }
    }
}

/// Bytes of UDP payload that fit the MTU of every mode, so that all modes carry the same packets: 1,400 at
/// an underlay MTU of 1500.
pub(super) fn full_size(mtu: u32) -> u32 {
    mtu - 100
}

/// Bulk TCP from each of `flows`: (sending host, streams).
fn bulk(
    testbed: &mut Testbed,
    timing: Timing,
    flows: &[(usize, usize)],
) -> Result<BenchSample, LabError> {
    let mut sources = Vec::new();
    for (from, streams) in flows {
        let words = format!("tcp --to {} --streams {streams}", target(testbed, *from, SINK_PORT));
        sources.push(start(testbed, *from, &words)?);
    }
    let (before, after, used, calls) = window(testbed, timing)?;
    for source in &mut sources {
        let report: TcpReport = source.report()?;
        if let Some(error) = report.errors.first() {
            return Err(LabError::Unusable(format!("{}: {error}", testbed.mode.name)));
        }
    }
    let bytes: u64 = (0..2).map(|n| after[n].tcp_bytes - before[n].tcp_bytes).sum();
    let rate: f64 =
        (0..2).map(|n| rate(&before[n], &after[n], |r| r.tcp_bytes)).sum::<f64>() * 8.0 / 1e9;
    Ok(BenchSample {
        value: rate,
        cpu: per(used.busy, bytes as f64 / 1e9),
        own_cpu: per(used.own, bytes as f64 / 1e9),
        threads: shares(&used),
        calls_per_packet: calls,
        ..BenchSample::default()
    })
}

/// UDP packets as fast as one generator can send.
fn blast(testbed: &mut Testbed, timing: Timing, size: u32) -> Result<BenchSample, LabError> {
    let words = format!("udp --to {} --size {size}", target(testbed, 0, SINK_PORT));
    let mut source = start(testbed, 0, &words)?;
    interrupt::sleep(timing.warm_up)?;
    let sent_before: UdpReport = source.report()?;
    let generator = Reading::take(&[source.pid()], &[]);
    let now = Timing { warm_up: Duration::ZERO, ..timing };
    let (before, after, used, calls) = window(testbed, now)?;
    let generator = generator.until(&Reading::take(&[source.pid()], &[]));
    let sent_after: UdpReport = source.report()?;
    let sent = (sent_after.sent - sent_before.sent) as f64
        / (sent_after.at_ns - sent_before.at_ns) as f64
        * 1e9;
    let received = after[1].udp_packets - before[1].udp_packets;
    let value = rate(&before[1], &after[1], |r| r.udp_packets);
    Ok(BenchSample {
        value,
        cpu: per(used.busy * 1e6, received as f64),
        own_cpu: per(used.own * 1e6, received as f64),
        threads: shares(&used),
        calls_per_packet: calls,
        loss: Some((1.0 - value / sent).max(0.0)),
        overflow: Some(rate(&before[1], &after[1], |r| r.udp_overflowed) / sent),
        generator: Some(generator.threads.values().sum::<f64>() / generator.elapsed),
        disordered: after[1].udp_disordered - before[1].udp_disordered,
        ..BenchSample::default()
    })
}

/// Finds the highest rate without loss by bisection.
fn lossless(testbed: &mut Testbed, timing: Timing) -> Result<BenchSample, LabError> {
    let (mut low, mut high) = (0, HIGHEST_RATE);
    let mut best = BenchSample::default();
    for _ in 0..BISECTIONS {
        let rate = (low + high) / 2;
        let before = Reading::take(&testbed.daemons(), &testbed.agents());
        let (sent, received, seconds) = trial(testbed, rate, timing.window.min(TRIAL))?;
        let used = before.until(&Reading::take(&testbed.daemons(), &testbed.agents()));
        // A generator that fell behind did not offer that rate.
        let kept_pace = sent as f64 >= rate as f64 * seconds * 0.95;
        if kept_pace && received as f64 >= sent as f64 * (1.0 - TOLERATED_LOSS) {
            low = rate;
            best = BenchSample {
                value: received as f64 / seconds,
                cpu: per(used.busy * 1e6, received as f64),
                // The generator of a trial has ended before its CPU time can be read.
                own_cpu: f64::NAN,
                threads: shares(&used),
                loss: Some(1.0 - received as f64 / sent as f64),
                ..BenchSample::default()
            };
        } else {
            high = rate;
        }
    }
    Ok(best)
}

/// Sends at `rate` for `length`. Returns the packets sent and received, and the seconds of sending.
fn trial(testbed: &mut Testbed, rate: u64, length: Duration) -> Result<(u64, u64, f64), LabError> {
    let before: SinkReport = testbed.sinks[1].report()?;
    let words = format!("udp --to {} --size 18 --rate {rate}", target(testbed, 0, SINK_PORT));
    let mut source = start(testbed, 0, &words)?;
    interrupt::sleep(length)?;
    let stopped: UdpReport = source.stop()?;
    interrupt::sleep(DRAIN)?;
    let sent: UdpReport = source.report()?;
    let after: SinkReport = testbed.sinks[1].report()?;
    Ok((sent.sent, after.udp_packets - before.udp_packets, stopped.at_ns as f64 / 1e9))
}

/// Requests one after another, if `loaded` beside a bulk stream.
fn round_trips(
    testbed: &mut Testbed,
    timing: Timing,
    loaded: bool,
) -> Result<BenchSample, LabError> {
    let load = if loaded {
        let words = format!("tcp --to {}", target(testbed, 0, SINK_PORT));
        Some(start(testbed, 0, &words)?)
    } else {
        None
    };
    let words = format!("echo --to {}", target(testbed, 0, ECHO_PORT));
    let mut client = start(testbed, 0, &words)?;
    interrupt::sleep(timing.warm_up)?;
    let _: EchoReport = client.mark()?;
    let now = Timing { warm_up: Duration::ZERO, ..timing };
    let (before, after, used, calls) = window(testbed, now)?;
    let seen: EchoReport = client.report()?;
    drop(load);
    Ok(BenchSample {
        value: if loaded { seen.times.p99 } else { seen.times.p50 },
        cpu: per(used.busy * 1e6, seen.answered as f64),
        own_cpu: per(used.own * 1e6, seen.answered as f64),
        threads: shares(&used),
        calls_per_packet: calls,
        times: Some(seen.times),
        unanswered: Some(seen.lost),
        beside: loaded.then(|| rate(&before[1], &after[1], |r| r.tcp_bytes) * 8.0 / 1e9),
        ..BenchSample::default()
    })
}

/// No traffic.
fn idle(testbed: &mut Testbed, timing: Timing) -> Result<BenchSample, LabError> {
    let (_, _, used, _) = window(testbed, timing)?;
    Ok(BenchSample {
        value: used.threads.values().fold(0.0, |sum, seconds| sum + seconds) / used.elapsed * 1e3,
        cpu: used.busy / used.elapsed,
        own_cpu: used.own / used.elapsed,
        threads: shares(&used),
        ..BenchSample::default()
    })
}

type Window = ([SinkReport; 2], [SinkReport; 2], Used, Option<f64>);

/// Warms up, then reads all counters at the beginning and the end of the window.
fn window(testbed: &mut Testbed, timing: Timing) -> Result<Window, LabError> {
    interrupt::sleep(timing.warm_up)?;
    let daemons = testbed.daemons();
    let calls = Calls::read(testbed);
    let before = reports(testbed)?;
    let agents = testbed.agents();
    let started = Reading::take(&daemons, &agents);
    interrupt::sleep(timing.window)?;
    let after = reports(testbed)?;
    let used = started.until(&Reading::take(&daemons, &agents));
    let calls = calls.zip(Calls::read(testbed)).map(|(a, b)| b.per_packet_since(a));
    Ok((before, after, used, calls.flatten()))
}

fn reports(testbed: &mut Testbed) -> Result<[SinkReport; 2], LabError> {
    Ok([testbed.sinks[0].report()?, testbed.sinks[1].report()?])
}

fn start(testbed: &mut Testbed, from: usize, words: &str) -> Result<Agent, LabError> {
    let place = testbed.lab.host(from).container().netns();
    let agent = Agent::start(&testbed.lab.binary()?, place, words)?;
    testbed.sources.push(agent.pid());
    Ok(agent)
}

/// The address of the sink for the container of host `from`.
fn target(testbed: &Testbed, from: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(testbed.container_address(1 - from), port)
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

/// Upper limit of the search for the lossless rate, in packets per second.
const HIGHEST_RATE: u64 = 800_000;
/// Steps of that search.
const BISECTIONS: u32 = 9;
const TRIAL: Duration = Duration::from_millis(400);
const TOLERATED_LOSS: f64 = 0.001;

/// Time in which the last packets arrive.
const DRAIN: Duration = Duration::from_millis(60);
