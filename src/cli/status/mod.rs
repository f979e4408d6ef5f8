//! `status`: the state of the daemon on one screen.

mod cluster;
mod warnings;

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::samples::{IntervalArgs, Samples};
use super::table::{self, Layout};
use super::terminal::{self, wrapped};
use crate::args::QueryArgs;
use crate::dataplane::DropReason;
use crate::dataplane::counters::DirectionStats;
use crate::exit::Exit;
use crate::humanize;
use crate::observe::protocol::snapshot::{Snapshot, Thread};
use crate::runtime::block_on;
use cluster::Target;
use warnings::{since, warnings};

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
    /// Over how long rates are measured.
    #[command(flatten)]
    pub interval: IntervalArgs,
    /// Print one line for each of these hosts instead, given as HOST:PORT of its metrics or the path of its status
    /// socket; the exit code is 1 if any is not ready or does not answer
    #[arg(long, value_name = "HOST:PORT|SOCKET", num_args = 1.., conflicts_with = "interval")]
    pub all: Vec<Target>,
}

/// Prints the screen, or the snapshot with rates as JSON.
///
/// # Errors
/// The daemon does not answer; with `--all`, a host is not ready.
pub(super) fn run(args: &StatusArgs) -> Result<(), Exit> {
    if !args.all.is_empty() {
        return block_on(cluster::run(&args.all, args.query.json));
    }
    let samples = Samples::take(&args.query.client(), args.interval)?;
    if args.query.json {
        println!("{:#}", in_json(&samples));
    } else {
        let text = screen(&samples);
        let width = terminal::size().map(|(columns, _)| columns);
        print!("{}", width.map_or_else(|| text.clone(), |width| wrapped(&text, width, INDENT)));
    }
    Ok(())
}

/// Selects the counters of one direction.
type DirectionOf = fn(&Snapshot) -> &DirectionStats;
/// Selects one counter.
type CounterOf = fn(&Snapshot) -> u64;

/// The two directions, and their names for users.
const DIRECTIONS: [(&str, DirectionOf); 2] =
    [("out", |snapshot| &snapshot.stats.egress), ("in", |snapshot| &snapshot.stats.ingress)];

/// Packets that the kernel dropped at the daemon's device and sockets: direction, reason, counter.
const KERNEL_DROPS: [(&str, &str, CounterOf); 2] = [
    ("out", "TUN queue full (kernel)", |snapshot| snapshot.tun_queue_drops),
    ("in", "socket buffer full (kernel)", |snapshot| snapshot.stats.socket_overflows),
];

fn in_json(samples: &Samples) -> Value {
    let rates = samples.seconds().map(|seconds| {
        let mut rates = json!({ "seconds": seconds });
        for (name, direction) in DIRECTIONS {
            rates[name] = json!({
                "packets": samples.rate(|s| direction(s).carried_packets),
                "bytes": samples.rate(|s| direction(s).carried_bytes),
                "dropped": samples.rate(|s| direction(s).dropped()),
            });
        }
        rates
    });
    json!({ "version": 1, "warnings": warnings(&samples.now), "rates": rates, "status": samples.now })
}

fn screen(samples: &Samples) -> String {
    let mut out = String::new();
    heading(&mut out, &samples.now);
    addresses(&mut out, &samples.now);
    lease_store(&mut out, &samples.now);
    features(&mut out, &samples.now);
    traffic(&mut out, samples);
    drops(&mut out, samples);
    threads(&mut out, samples);
    out
}

fn heading(out: &mut String, now: &Snapshot) {
    let process = &now.process;
    let _ = writeln!(
        out,
        "flannel-udp {} on {} (instance {}, pid {}), running for {}",
        now.build.version,
        process.host,
        process.instance,
        process.pid,
        humanize::seconds(process.uptime)
    );
    let warnings = warnings(now);
    if warnings.is_empty() {
        out.push_str("ready, nothing wrong\n");
    }
    for warning in warnings {
        let _ = writeln!(out, "! {}", warning.replace('\n', "\n    "));
    }
    out.push('\n');
}

fn addresses(out: &mut String, now: &Snapshot) {
    if let Some(lease) = &now.lease {
        let network = now.overlay.as_ref().map(|overlay| format!(" of {}", overlay.network));
        let term = match lease.expires {
            None => "a reservation, never expires".to_owned(),
            Some(expires) if expires <= now.taken => "expired".to_owned(),
            Some(expires) => format!("expires in {}", humanize::seconds(expires - now.taken)),
        };
        let network = network.unwrap_or_default();
        let renewals = humanize::count(lease.renewals);
        line(out, "lease", &format!("{}{network}, {term}, renewals {renewals}", lease.subnet));
    }
    if let Some(underlay) = &now.underlay {
        let public = if underlay.public_ip == underlay.address {
            String::new()
        } else {
            format!(" (announced as {})", underlay.public_ip)
        };
        line(
            out,
            "underlay",
            &format!(
                "{} {}{public}, UDP {}, MTU {}; {}",
                underlay.interface, underlay.address, underlay.port, underlay.mtu, underlay.reason
            ),
        );
    }
    if let Some(overlay) = &now.overlay {
        line(
            out,
            "overlay",
            &format!(
                "{} {}, MTU {}, source check {}, destination check {}, masquerade {}",
                overlay.device,
                overlay.address,
                overlay.mtu,
                overlay.source_check,
                overlay.destination_check,
                if overlay.masquerade { "on" } else { "off" }
            ),
        );
    }
}

fn lease_store(out: &mut String, now: &Snapshot) {
    let Some(registry) = &now.registry else { return };
    let state = if registry.connected { "connected" } else { "NOT READ" };
    let contact = match registry.last_contact_ago {
        Some(ago) => format!("last contact {} ago", humanize::seconds(ago)),
        None => "no contact yet".to_owned(),
    };
    line(out, "registry", &format!("{}: {state}, {contact}", registry.store));
    let mut more = format!(
        "revision {}, watch restarts {}, invalid entries {}",
        registry.revision, registry.watch_restarts, registry.skipped_keys
    );
    if let Some(error) = &registry.last_error {
        let separator = if error.contains('\n') { '\n' } else { ' ' };
        let _ = write!(more, "; last error:{separator}{error}");
    }
    line(out, "", &more);
    line(
        out,
        "routes",
        &format!(
            "{} to {}, table revision {}",
            humanize::counted(now.routes.count, "route"),
            humanize::counted(now.peers.len() as u64, "peer"),
            now.routes.revision
        ),
    );
}

fn features(out: &mut String, now: &Snapshot) {
    if now.features.is_empty() {
        return;
    }
    let on: Vec<_> = now.features.iter().filter(|f| f.on).map(|f| f.name.as_ref()).collect();
    let on = if on.is_empty() { "one packet per system call".into() } else { on.join(", ") };
    line(out, "kernel", &on);
    for feature in now.features.iter().filter(|feature| !feature.on) {
        let why = feature.why.as_deref().unwrap_or("reason unknown");
        line(out, "", &format!("without {}: {why}{}", feature.name, since(now, feature)));
    }
    let layers = &now.confinement.layers;
    let on: Vec<_> = layers.iter().filter(|layer| layer.on).map(|layer| &*layer.name).collect();
    if !layers.is_empty() {
        line(
            out,
            "confined",
            &if on.is_empty() { "no layer in force".into() } else { on.join(", ") },
        );
    }
    for layer in layers.iter().filter(|layer| !layer.on) {
        line(out, "", &format!("without {}: {}", layer.name, layer.note));
    }
}

fn traffic(out: &mut String, samples: &Samples) {
    if samples.now.overlay.is_none() {
        return;
    }
    let over =
        samples.seconds().map(|seconds| format!("over the last {}", humanize::seconds(seconds)));
    let over = over.unwrap_or_default();
    let mut table = table::new([
        ("carried", Layout::Key),
        ("packets/s", Layout::Number),
        ("", Layout::Number),
        ("packets", Layout::Number),
        ("", Layout::Number),
        (&over, Layout::Text),
    ]);
    for (name, direction) in DIRECTIONS {
        let packets = samples.rate(|s| direction(s).carried_packets).map(humanize::rate);
        let bytes = samples.rate(|s| direction(s).carried_bytes).map(humanize::bits);
        let total = direction(&samples.now);
        table.add_row([
            format!("  {name}"),
            packets.unwrap_or_else(dash),
            bytes.unwrap_or_else(dash),
            humanize::count(total.carried_packets),
            humanize::bytes(total.carried_bytes),
        ]);
    }
    let _ = write!(out, "\n{}", table::text(&table));
}

fn drops(out: &mut String, samples: &Samples) {
    if samples.now.overlay.is_none() {
        return;
    }
    let mut rows = Vec::new();
    for (name, direction) in DIRECTIONS {
        for reason in DropReason::ALL.iter().map(|reason| reason.name()) {
            let dropped =
                |s: &Snapshot| direction(s).drops.get(reason).copied().unwrap_or_default();
            rows.push((name, reason, dropped(&samples.now), samples.rate(dropped)));
        }
    }
    for (name, reason, dropped) in KERNEL_DROPS {
        rows.push((name, reason, dropped(&samples.now), samples.rate(dropped)));
    }
    rows.retain(|(_, _, total, _)| *total > 0);
    if rows.is_empty() {
        line(out, "dropped", "nothing");
        return;
    }
    let mut table = table::new([
        ("dropped", Layout::Key),
        ("", Layout::Text),
        ("packets/s", Layout::Number),
        ("packets", Layout::Number),
    ]);
    for (name, reason, total, rate) in rows {
        let rate = rate.map_or_else(dash, humanize::rate);
        table.add_row([format!("  {name}"), reason.to_owned(), rate, humanize::count(total)]);
    }
    out.push_str(&table::text(&table));
}

fn threads(out: &mut String, samples: &Samples) {
    for thread in &samples.now.threads {
        let earlier = samples.before.as_ref().and_then(|before| {
            before.threads.iter().find(|t| t.name == thread.name && t.lifetime < thread.lifetime)
        });
        let share = |time: fn(&Thread) -> f64| {
            let (before, born) = earlier.map_or((0.0, 0.0), |e| (time(e), e.lifetime));
            let share = (time(thread) - before) / (thread.lifetime - born).max(f64::EPSILON);
            (100.0 * share).clamp(0.0, 100.0)
        };
        let spinning = share(|thread| thread.spinning);
        let busy = (share(|thread| thread.busy) - spinning).max(0.0);
        let name = if thread == &samples.now.threads[0] { "threads" } else { "" };
        let text = format!("{:<12} {busy:>3.0} % busy, {spinning:>3.0} % polling", thread.name);
        line(out, name, &text);
    }
}

fn line(out: &mut String, name: &str, text: &str) {
    let indent = " ".repeat(INDENT);
    let _ = writeln!(out, "{name:<10} {}", text.replace('\n', &format!("\n{indent}")));
}

/// Where the text of a line begins, behind its name.
const INDENT: usize = 11;

fn dash() -> String {
    "-".into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::dataplane::FeatureState;

    fn snapshot(lifetime: f64, busy: f64, spinning: f64) -> Snapshot {
        let name = "egress-0".to_owned();
        let threads = vec![Thread { name, busy, spinning, lifetime, ..Thread::default() }];
        Snapshot { threads, ..Snapshot::default() }
    }

    #[test]
    fn polling_for_packets_does_not_count_as_busy() {
        let samples = |before| Samples { before, now: snapshot(12.0, 5.0, 2.5) };
        let whole = screen(&samples(None));
        assert!(whole.contains("egress-0      21 % busy,  21 % polling"), "{whole}");
        let recent = screen(&samples(Some(snapshot(10.0, 4.0, 2.0))));
        assert!(recent.contains("egress-0      25 % busy,  25 % polling"), "{recent}");
    }

    #[test]
    fn a_lost_feature_is_shown_with_its_age() {
        let lost = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let feature = |name, lost: Option<SystemTime>, why: &str| FeatureState {
            name: std::borrow::Cow::Borrowed(name),
            on: false,
            why: Some(why.into()),
            lost,
        };
        let features =
            vec![feature("gso", Some(lost), "EIO"), feature("gro", None, "switched off")];
        let now = Snapshot { taken: 1_250.0, features, ..Snapshot::default() };
        let samples = Samples { before: None, now };
        let screen = screen(&samples);
        assert!(screen.contains("! continuing without gso: EIO (4 min ago)"), "{screen}");
        assert!(screen.contains("without gro: switched off\n"), "{screen}");
        let json = in_json(&samples);
        assert_eq!(json["status"]["features"][0]["lost"], "1970-01-01T00:16:40Z");
        assert_eq!(json["status"]["features"][1]["lost"], Value::Null);
    }
}
