//! `peers`: the other hosts, and the traffic to and from each.

mod row;

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::host_names::HostNames;
use super::repeat::Display;
use super::samples::{IntervalArgs, Samples};
use super::table::{self, Layout};
use super::terminal;
use crate::args::QueryArgs;
use crate::exit::Exit;
use crate::humanize;
use crate::observe::protocol::snapshot::Snapshot;
use crate::observe::warnings::WarningKind;
pub(super) use row::{PathState, RECENT};
use row::{PeerRow, rows};

/// Arguments of `peers`.
#[derive(Clone, Debug, Args)]
pub struct PeersArgs {
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
    /// Over how long rates are measured.
    #[command(flatten)]
    pub interval: IntervalArgs,
    /// Repeat every interval until Ctrl-C: in place on a terminal, otherwise one table after another; with --json
    /// one document per line
    #[arg(long)]
    pub watch: bool,
    /// Do not look up host names
    #[arg(short = 'n', long)]
    pub numeric: bool,
}

/// Prints a table, or JSON.
///
/// # Errors
/// The daemon does not answer, or `--watch` has no interval.
pub(super) fn run(args: &PeersArgs) -> Result<(), Exit> {
    if args.watch && args.interval.interval == 0 {
        return Err(Exit::usage(
            "error: --watch repeats every interval: give one above 0, such as --interval=1000",
        ));
    }
    let mut names = if args.numeric { HostNames::disabled() } else { HostNames::default() };
    if args.watch {
        return watch(args, &mut names);
    }
    let client = args.query.client();
    let first = client.status()?;
    // The names arrive while the rates are measured.
    look_up(&mut names, &first);
    let samples = Samples::after(first, &client, args.interval)?;
    look_up(&mut names, &samples.now);
    names.wait();
    if args.query.json {
        println!("{:#}", in_json(&samples, &names));
    } else {
        print!("{}", in_words(&samples, &names));
    }
    Ok(())
}

/// Prints after every interval, until the output is closed.
fn watch(args: &PeersArgs, names: &mut HostNames) -> Result<(), Exit> {
    let client = args.query.client();
    let mut display = Display::of_stdout(!args.query.json);
    let mut before = client.status()?;
    look_up(names, &before);
    if display.is_in_place() {
        let samples = Samples { before: None, now: before.clone() };
        if !display.show(&in_words(&samples, names)) {
            return Ok(());
        }
    }
    loop {
        std::thread::sleep(args.interval.length());
        let now = match client.status() {
            Ok(now) => now,
            Err(error) => {
                // The daemon may be restarting.
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                eprintln!("no answer from the daemon; retrying: {why}");
                continue;
            }
        };
        look_up(names, &now);
        names.wait();
        let samples = Samples::between(Some(before), now);
        let text = if args.query.json {
            format!("{}\n", in_json(&samples, names))
        } else {
            in_words(&samples, names)
        };
        if !display.show(&text) {
            return Ok(());
        }
        before = samples.now;
    }
}

fn look_up(names: &mut HostNames, now: &Snapshot) {
    names.look_up(now.peers.iter().map(|peer| peer.public_ip));
}

fn in_json(samples: &Samples, names: &HostNames) -> Value {
    let peers: Vec<_> = rows(samples, names).iter().map(PeerRow::json).collect();
    json!({ "version": 1, "rate_seconds": samples.seconds(), "peers": peers })
}

fn in_words(samples: &Samples, names: &HostNames) -> String {
    let rows = rows(samples, names);
    let mut text = if rows.is_empty() { "no other hosts\n".into() } else { table_of(&rows) };
    let withheld = WarningKind::WithheldLease.name();
    for warning in samples.now.warnings.iter().filter(|warning| warning.kind == withheld) {
        let _ = writeln!(text, "! {}", warning.sentence());
    }
    text
}

fn table_of(rows: &[PeerRow<'_>]) -> String {
    let last = |ago: Option<Duration>| {
        ago.map_or_else(|| "never".into(), |ago| humanize::seconds(ago.as_secs_f64().floor()))
    };
    let rate = |rate: Option<f64>, text: fn(f64) -> String| rate.map_or("-".into(), text);
    let cells = rows.iter().map(|row| {
        vec![
            row.peer.subnet.to_string(),
            row.peer.public_ip.to_string(),
            rate(row.rates.map(|r| r.sent_packets), humanize::rate),
            rate(row.rates.map(|r| r.sent_bytes), humanize::bits),
            rate(row.rates.map(|r| r.received_packets), humanize::rate),
            rate(row.rates.map(|r| r.received_bytes), humanize::bits),
            last(row.traffic.and_then(|t| t.last_sent)),
            last(row.traffic.and_then(|t| t.last_received)),
            row.unsent(),
            row.state().description().to_owned(),
            row.name.unwrap_or("-").to_owned(),
        ]
    });
    let cells: Vec<_> = cells.collect();
    let sets = if rows.iter().any(|row| row.name.is_some()) { &NAMED_SETS[..] } else { &SETS[..] };
    let width = terminal::size().map(|(columns, _)| columns);
    table::text(&table::fitting(&COLUMNS, &cells, sets, width))
}

const COLUMNS: [(&str, Layout); 11] = [
    ("SUBNET", Layout::Key),
    ("HOST", Layout::Key),
    ("OUT pkt/s", Layout::Number),
    ("OUT", Layout::Number),
    ("IN pkt/s", Layout::Number),
    ("IN", Layout::Number),
    ("LAST OUT", Layout::Number),
    ("LAST IN", Layout::Number),
    ("UNSENT", Layout::Number),
    ("STATE", Layout::Text),
    ("NAME", Layout::Text),
];

/// Sets of columns, by index; the first one that fits the terminal is shown.
const SETS: [&[usize]; 4] = [
    &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    &[0, 1, 2, 3, 4, 5, 7, 8, 9],
    &[0, 1, 3, 5, 7, 8, 9],
    &[0, 1, 3, 5, 9],
];

/// The same, if a name is known.
const NAMED_SETS: [&[usize]; 6] = [
    &[0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9],
    &[0, 1, 10, 2, 3, 4, 5, 7, 8, 9],
    &[0, 1, 10, 3, 5, 7, 8, 9],
    &[0, 1, 10, 3, 5, 9],
    SETS[2],
    SETS[3],
];
