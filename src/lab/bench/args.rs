//! Options of `flannel-udp bench`.

use std::path::PathBuf;

use crate::lab::UnderlayKind;

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// Rounds; each takes one sample of every measure and mode
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Length of each sample
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub seconds: f64,
    /// Only these measures: tcp1, tcp4, tcp1r, tcpboth, pps18 (or pps), pps64, ppsfull, lossless,
    /// rr, rrload, idle; a prefix such as tcp selects all that begin with it
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Modes: underlay or host-gw (plain routes), vxlan, flannel-udp, off, spin0 (--spin=0), half (offloads on one
    /// end only), watched (metrics and status polled every second); and, where their packages are installed,
    /// wireguard-go, tinc and nebula, which encrypt packets, and tinc-plain, which does not
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "underlay,vxlan,flannel-udp,off"
    )]
    pub modes: Vec<String>,
    /// Additional mode: the daemon with other flags, or another build of it; repeatable.
    /// NAME=--flag …, or NAME=/path/to/flannel-udp --flag …
    #[arg(long = "variant", value_name = "NAME=FLAGS", allow_hyphen_values = true)]
    pub variants: Vec<String>,
    /// Additional mode: a plain loop of one packet per system call, such as benches/baseline/loop.c
    #[arg(long, value_name = "PROGRAM")]
    pub baseline: Option<PathBuf>,
    /// MTUs of the underlay
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1500")]
    pub mtu: Vec<u32>,
    /// Offloads of the underlay's links; the targets are for nic
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nic,veth")]
    pub underlay: Vec<UnderlayKind>,
    /// Short run that does not judge the targets: underlay nic; tcp1, tcp4, pps18 and rr; 3 rounds of 1 second
    #[arg(long)]
    pub quick: bool,
    /// Cross-check one TCP stream with iperf3
    #[arg(long)]
    pub with_iperf3: bool,
    /// Write all samples as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write an SVG plot of the first underlay
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write the tables into this file, between the lines `<!-- MARK:begin -->` and
    /// `<!-- MARK:end -->`
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// MARK in these files
    #[arg(long, value_name = "MARK", default_value = "bench")]
    pub mark: String,
    /// Write one short table of the first underlay into this file, between the lines
    /// `<!-- MARK-summary:begin -->` and `<!-- MARK-summary:end -->`; repeatable
    #[arg(long, value_name = "FILE")]
    pub summary: Vec<PathBuf>,
}
