//! `explain`: explains step by step what happens to a packet.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use clap::Args;
use serde_json::{Value, json};

use crate::args::QueryArgs;
use crate::args::values::ip_protocol;
use crate::exit::Exit;
use crate::observe::protocol::Command;
use crate::observe::protocol::explain::{Explanation, Outcome, PacketPath, Query};
use crate::packet::protocol;

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Source address of the packet
    pub source: Ipv4Addr,
    /// Destination address
    pub destination: Ipv4Addr,
    /// icmp, tcp, udp or a number; determines whether an ICMP error is sent, and which policy routing rules
    /// match
    #[arg(value_parser = ip_protocol, default_value = "icmp")]
    pub protocol: u8,
    /// Destination port, or source and destination port
    #[arg(value_name = "PORT", num_args = 0..=2)]
    pub ports: Vec<u16>,
    /// TTL that the packet is sent with
    #[arg(long, value_name = "N", default_value = "64")]
    pub ttl: u8,
    /// The host that sends the datagram, if it is not the holder of SOURCE's lease
    #[arg(long, value_name = "IP")]
    pub from: Option<Ipv4Addr>,
    /// Explain both directions, even one that cannot apply to this packet
    #[arg(long)]
    pub both: bool,
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// Prints the explanation, as text or as JSON.
///
/// # Errors
/// Ports for a protocol without ports, or the daemon does not answer.
pub(super) fn run(args: &ExplainArgs) -> Result<(), Exit> {
    if !args.ports.is_empty() && ![protocol::TCP, protocol::UDP].contains(&args.protocol) {
        return Err(Exit::usage(
            "error: only tcp and udp have ports: omit them, or name the protocol",
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
        print!("{}", text(&client.ask(&Command::Explain(query))?, args.both));
    }
    Ok(())
}

fn text(explanation: &Explanation, both: bool) -> String {
    let Query { source, destination, protocol, ports, ttl, .. } = &explanation.packet;
    let name = match *protocol {
        protocol::ICMP => "icmp".to_owned(),
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        other => format!("protocol {other}"),
    };
    let [from, to] = ports.map_or_else(Default::default, |ports| ports.map(|p| format!(":{p}")));
    let mut out = format!("{name} {source}{from} -> {destination}{to}, TTL {ttl}\n");
    for (title, path, peer) in [
        ("sent from or through this host", &explanation.sent, "next hop"),
        ("received from another host", &explanation.received, "peer"),
    ] {
        match &path.not_applicable {
            Some(why) if !both => {
                let _ = writeln!(out, "\n{title}: does not apply, {why} (--both explains it)");
            }
            _ => write_path(&mut out, title, path, peer),
        }
    }
    out
}

fn write_path(out: &mut String, title: &str, path: &PacketPath, peer: &str) {
    let sign = match path.outcome {
        Outcome::Carried => "yes",
        Outcome::Dropped => "NO",
        Outcome::NotHere => "not here",
    };
    let _ = writeln!(out, "\n{title}: {sign}\n  {}", path.verdict);
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "  {name:<18} {text}");
    };
    if let Some(reason) = &path.reason {
        line("drop reason", reason);
    }
    match (&path.icmp, path.outcome) {
        (Some(icmp), _) => line("ICMP to the sender", icmp),
        (None, Outcome::Dropped) => line("ICMP to the sender", "none from this daemon"),
        (None, _) => {}
    }
    for (name, step) in [
        ("arrives through", &path.input),
        ("rp_filter", &path.rp_filter),
        ("forwarding", &path.forwarding),
    ] {
        if let Some(step) = step {
            line(name, step);
        }
    }
    line("interface", path.interface.as_deref().unwrap_or("none: the kernel drops the packet"));
    if path.outcome != Outcome::NotHere {
        let lease = path.lease.map(|lease| lease.to_string());
        line("lease", lease.as_deref().unwrap_or("none"));
        line(peer, path.peer.as_deref().unwrap_or("none"));
        if let Some(datagram) = &path.datagram {
            line("datagram", datagram);
        }
        line("MTU", &path.mtu.to_string());
    }
    for (index, hop) in path.ttl.iter().enumerate() {
        let name = if index == 0 { "TTL" } else { "" };
        line(name, &format!("{:>3}  {}", hop.ttl, hop.at));
    }
    if !path.source_check.is_empty() {
        line("source check", &path.source_check);
    }
    if let Some(check) = &path.destination_check {
        line("destination check", check);
    }
    match &path.masquerade {
        Some(rule) => {
            let effect = rule.source.as_ref().map(|to| format!(" (the source becomes {to})"));
            line("masquerade rule", &format!("{}{}", rule.rule, effect.unwrap_or_default()));
        }
        None => line("masquerade rule", "none applies"),
    }
    if let Some(remedy) = &path.remedy {
        line("remedy", remedy);
    }
}

/// The source port if none is given: the first of the kernel's default range of ephemeral ports.
const EPHEMERAL: u16 = 32_768;
