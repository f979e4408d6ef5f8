//! `ping`: round trip, loss and path MTU to a peer, through the overlay and beside it.

mod causes;
mod mtu;
mod report;
mod target;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use futures::{StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::args::QueryArgs;
use crate::args::values::seconds;
use crate::exit::{Code, Exit};
use crate::observe::protocol::snapshot::Snapshot;
use crate::probe::echo::{Echo, EchoOutcome};
use crate::probe::silence::SilentPeer;
use crate::probe::size::SizeProbe;
use mtu::PathMtu;
use target::Target;

/// Arguments of `ping`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit codes, as in ping(8): 0 the target answers, 1 it does not, 2 it could not be tried."
)]
pub struct PingArgs {
    /// A peer's host address, host name or subnet, or any address in a peer's subnet
    #[arg(value_name = "PEER|ADDRESS")]
    pub target: String,
    /// Number of requests on each path
    #[arg(short = 'c', long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Time between two requests
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "0.2", value_parser = seconds)]
    pub interval: Duration,
    /// How long to wait for each reply
    #[arg(short = 'W', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub timeout: Duration,
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// A way to the peer, with the address that is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    /// Through the overlay to the peer's flannel0.
    Overlay,
    /// Through the overlay to the address that was asked for, behind the peer.
    Container,
    /// To the peer's underlay address.
    Underlay,
}

/// The answers on one path.
struct PathAnswers {
    path: Path,
    address: Ipv4Addr,
    outcomes: Vec<io::Result<EchoOutcome>>,
    mtu: Option<PathMtu>,
}

impl PathAnswers {
    fn new(path: Path, address: Ipv4Addr) -> Self {
        Self { path, address, outcomes: vec![], mtu: None }
    }

    /// The round trips, in the order of the requests.
    fn times(&self) -> impl Iterator<Item = Duration> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Ok(EchoOutcome::Reply(reply)) => Some(reply.time),
            _ => None,
        })
    }

    fn answers(&self) -> bool {
        self.times().next().is_some()
    }

    /// The share of requests without a reply, from 0 to 1.
    fn loss(&self) -> f64 {
        match self.outcomes.len() {
            0 => 0.0,
            sent => 1.0 - self.times().count() as f64 / sent as f64,
        }
    }
}

/// Sends the requests, measures the path MTU, and prints what was found.
///
/// # Errors
/// [`Code::CheckFailed`] if the target does not answer, [`Code::Warned`] (which is 2) if it could not be tried.
pub(super) async fn run(args: &PingArgs) -> Result<(), Exit> {
    let trouble =
        |error: &dyn std::fmt::Display| Exit::new(Code::Warned, format!("error: {error}"));
    let client = args.query.client();
    let now = client.status().map_err(|error| trouble(&error))?;
    let target = target::find(&args.target, &now).await.map_err(|error| trouble(&error))?;
    let echo = Echo::open().map_err(|error| {
        trouble(&format!("no raw socket for ICMP ({error}): run as root or with CAP_NET_RAW"))
    })?;
    if !args.query.json {
        println!("{}", report::heading(&target));
    }
    let mut paths = paths(&target);
    let finished = ask(args, &echo, &mut paths).await.map_err(|error| trouble(&error))?;
    if finished {
        measure_mtu(args, &echo, &now, &target, &mut paths).await;
    }
    // Requests that this host's firewall refuses are known to the daemon only now.
    let before = now;
    let now = client.status().unwrap_or_else(|_| before.clone());
    let port = now.underlay.as_ref().map_or(crate::packet::wire::DEFAULT_PORT, |used| used.port);
    let silent = SilentPeer { echo: &echo, host: target.host, port, subnet: target.subnet };
    let cause = causes::likely(&before, &now, &target, &silent, &paths);
    if args.query.json {
        println!("{:#}", report::json(args, &now, &target, &paths, cause.as_ref()));
    } else {
        print!("{}", report::text(&paths, cause.as_ref()));
    }
    let asked_for = if target.container.is_some() { Path::Container } else { Path::Overlay };
    if paths.iter().any(|answers| answers.path == asked_for && answers.answers()) {
        Ok(())
    } else {
        Err(Exit::new(Code::CheckFailed, ""))
    }
}

fn paths(target: &Target) -> Vec<PathAnswers> {
    let mut paths = vec![PathAnswers::new(Path::Overlay, target.subnet.network())];
    paths.extend(target.container.map(|address| PathAnswers::new(Path::Container, address)));
    paths.push(PathAnswers::new(Path::Underlay, target.host));
    paths
}

/// Sends a request on each path per interval, and prints each round as it ends. Returns false after SIGINT.
///
/// # Errors
/// The kernel refuses a signal handler.
async fn ask(args: &PingArgs, echo: &Echo, paths: &mut [PathAnswers]) -> io::Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let start = Instant::now();
    let addresses: Vec<Ipv4Addr> = paths.iter().map(|answers| answers.address).collect();
    let rounds = stream::iter(0..args.count).map(async |number| {
        sleep_until(start + args.interval * number).await;
        join_all(addresses.iter().map(|to| echo.ping(*to, ECHO_LEN, args.timeout))).await
    });
    let mut rounds = std::pin::pin!(rounds.buffered(ROUNDS_AT_ONCE));
    let mut number = 0;
    loop {
        let round = tokio::select! {
            round = rounds.next() => round,
            _ = interrupt.recv() => return Ok(false),
        };
        let Some(round) = round else { return Ok(true) };
        number += 1;
        for (answers, outcome) in paths.iter_mut().zip(round) {
            answers.outcomes.push(outcome);
        }
        if !args.query.json {
            println!("{}", report::round(number, paths));
        }
    }
}

async fn measure_mtu(
    args: &PingArgs,
    echo: &Echo,
    now: &Snapshot,
    target: &Target,
    paths: &mut [PathAnswers],
) {
    let overlay = now.overlay.as_ref().map(|overlay| usize::from(overlay.mtu));
    let underlay = now.underlay.as_ref().map(|underlay| underlay.mtu as usize);
    let measurements = paths.iter_mut().filter(|answers| answers.answers()).map(async |answers| {
        let (to, full) = match answers.path {
            Path::Overlay => (target.subnet.network(), overlay),
            Path::Underlay => (target.host, underlay),
            Path::Container => return,
        };
        let Some(full) = full.filter(|full| *full > ECHO_LEN) else { return };
        // Loss must not be taken for a limit of the length.
        let attempts = if answers.loss() > 0.0 { ATTEMPTS_WITH_LOSS } else { ATTEMPTS };
        let probe = SizeProbe { echo, to, timeout: args.timeout, attempts };
        answers.mtu = Some(PathMtu::measure(&probe, ECHO_LEN, full).await);
    });
    join_all(measurements).await;
}

/// Length of a request in bytes, headers included, as ping(8) sends it.
const ECHO_LEN: usize = 84;
/// Number of requests of a length that must be lost before it counts as too long.
const ATTEMPTS: u32 = 2;
/// The same on a path that has lost requests.
const ATTEMPTS_WITH_LOSS: u32 = 5;
/// Largest number of rounds whose replies are waited for at a time.
const ROUNDS_AT_ONCE: usize = 1024;
