//! `explain`: what happens to a packet, in words.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use clap::Args;
use serde_json::{Value, json};

use crate::args::QueryArgs;
use crate::args::values::ip_protocol;
use crate::exit::Exit;
use crate::observe::protocol::Command;
use crate::observe::protocol::explain::{Explanation, Outcome, Query, Way};
use crate::packet::protocol;

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Source address of the packet
    pub source: Ipv4Addr,
    /// Destination address
    pub destination: Ipv4Addr,
    /// icmp, tcp, udp or a number; it decides whether an ICMP error is due, not the route
    #[arg(value_parser = ip_protocol, default_value = "icmp")]
    pub protocol: u8,
    /// Destination port, or source and destination port
    #[arg(value_name = "PORT", num_args = 0..=2)]
    pub ports: Vec<u16>,
    /// Time to live that the packet is sent with
    #[arg(long, value_name = "N", default_value = "64")]
    pub ttl: u8,
    /// The host that the datagram comes from, if not the one that has the lease of SOURCE
    #[arg(long, value_name = "IP")]
    pub from: Option<Ipv4Addr>,
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// Prints the explanation, in words or as JSON.
pub(super) fn run(args: &ExplainArgs) -> Result<(), Exit> {
    if !args.ports.is_empty() && ![protocol::TCP, protocol::UDP].contains(&args.protocol) {
        return Err(Exit::usage(
            "error: only tcp and udp have ports: leave them out, or say which",
        ));
    }
    let query = Query {
        source: args.source,
        destination: args.destination,
        protocol: args.protocol,
        ports: match args.ports[..] {
            [] => None,
            [to] => Some([EPHEMERAL, to]),
            [from, to, ..] => Some([from, to]),
        },
        ttl: args.ttl,
        from: args.from,
    };
    let client = args.query.client();
    if args.query.json {
        let mut explanation: Value = client.ask(&Command::Explain(query))?;
        explanation["version"] = json!(1);
        println!("{explanation:#}");
    } else {
        print!("{}", in_words(&client.ask(&Command::Explain(query))?));
    }
    Ok(())
}

fn in_words(explanation: &Explanation) -> String {
    let Query { source, destination, protocol, ports, ttl, .. } = &explanation.packet;
    let name = match *protocol {
        protocol::ICMP => "icmp".to_owned(),
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        other => format!("protocol {other}"),
    };
    let [from, to] = ports.map_or_else(Default::default, |ports| ports.map(|p| format!(":{p}")));
    let mut out = format!("{name} {source}{from} -> {destination}{to}, time to live {ttl}\n");
    way(&mut out, "sent from or through this host", &explanation.sent, "next hop");
    way(&mut out, "received from another host", &explanation.received, "peer");
    out
}

fn way(out: &mut String, title: &str, way: &Way, peer: &str) {
    let sign = match way.outcome {
        Outcome::Carried => "yes",
        Outcome::Dropped => "NO",
        Outcome::NotHere => "not here",
    };
    let _ = writeln!(out, "\n{title}: {sign}\n  {}", way.verdict);
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "  {name:<18} {text}");
    };
    if let Some(reason) = &way.reason {
        line("drop reason", reason);
    }
    match (&way.icmp, way.outcome) {
        (Some(icmp), _) => line("ICMP to the sender", icmp),
        (None, Outcome::Dropped) => line("ICMP to the sender", "none from this daemon"),
        (None, _) => {}
    }
    line("interface", way.interface.as_deref().unwrap_or("none: the kernel has no route"));
    if way.outcome != Outcome::NotHere {
        let lease = way.lease.map(|lease| lease.to_string());
        line("lease", lease.as_deref().unwrap_or("none"));
        line(peer, way.peer.as_deref().unwrap_or("none"));
        line("MTU", &way.mtu.to_string());
    }
    for (index, hop) in way.ttl.iter().enumerate() {
        let name = if index == 0 { "time to live" } else { "" };
        line(name, &format!("{:>3}  {}", hop.ttl, hop.at));
    }
    if !way.source_check.is_empty() {
        line("source check", &way.source_check);
    }
    if let Some(check) = &way.destination_check {
        line("destination check", check);
    }
    match &way.masquerade {
        Some(rule) => {
            let effect = rule.source.as_ref().map(|to| format!(" (source becomes {to})"));
            line("masquerade rule", &format!("{}{}", rule.rule, effect.unwrap_or_default()));
        }
        None => line("masquerade rule", "none applies"),
    }
}

/// A source port where none is named: the first of the kernel's usual range.
const EPHEMERAL: u16 = 32_768;
