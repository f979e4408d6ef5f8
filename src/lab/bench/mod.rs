//! `flannel-udp bench`: the tunnel beside the kernel's VXLAN and the plain underlay.
//!
//! Every mode stands in a lab of its own; the modes are measured in turn within each round, so that
//! drift of the machine hits all alike, and ratios are taken within rounds.

mod calls;
mod cpu;
mod iperf3;
mod machine;
mod measure;
mod mode;
mod results;
mod svg;
mod table;
mod targets;
mod watched;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use machine::Machine;
use measure::{Measure, Pace, Sample};
use mode::{Mode, Stage};
use results::{Results, Row, Table};

use super::{LabError, Underlay, interrupt, privilege, tool};

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// Rounds; each measures everything once
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub seconds: f64,
    /// Only these measures: tcp1, tcp4, tcp1r, tcpboth, pps18 (or pps), pps64, ppsfull, lossless,
    /// rr, rrload, idle; a beginning such as tcp means all that start so
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Modes: underlay, vxlan, flannel-udp, off, spin0 (--spin=0), half (offloads on one end only),
    /// watched (metrics scraped and status asked for every second)
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "underlay,vxlan,flannel-udp,off"
    )]
    pub modes: Vec<String>,
    /// One more mode: the daemon with other flags, or another build of it; repeatable.
    /// NAME=--flag …, or NAME=/path/to/flannel-udp --flag …
    #[arg(long = "variant", value_name = "NAME=FLAGS", allow_hyphen_values = true)]
    pub variants: Vec<String>,
    /// One more mode: a plain loop of one packet a system call, such as benches/baseline/loop.c
    #[arg(long, value_name = "PROGRAM")]
    pub baseline: Option<PathBuf>,
    /// MTUs of the underlay
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1500")]
    pub mtu: Vec<u32>,
    /// Offload settings of the underlay; nic is the one to judge by
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nic,veth")]
    pub underlay: Vec<Underlay>,
    /// A first impression: underlay nic, tcp1, tcp4, pps18 and rr, 3 rounds of 1 second
    #[arg(long)]
    pub quick: bool,
    /// Cross-check one TCP stream with iperf3
    #[arg(long)]
    pub with_iperf3: bool,
    /// Write all samples as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a plot of the first underlay
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Put the tables into this file, between the lines `<!-- MARK:begin -->` and
    /// `<!-- MARK:end -->`
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// The mark to look for
    #[arg(long, value_name = "MARK", default_value = "bench", requires = "markdown")]
    pub mark: String,
}

/// Measures, prints, writes the files.
pub(super) fn run(arguments: &BenchArgs) -> Result<(), LabError> {
    let plan = Plan::new(arguments)?;
    privilege::ensure()?;
    let machine = Machine::look()?;
    if let Some(warning) = machine.warning() {
        eprintln!("warning: {warning}");
    }
    let mut progress = Progress { done: 0, all: plan.samples(), started: Instant::now() };
    let mut tables = Vec::new();
    for (underlay, mtu) in &plan.underlays {
        tables.push(measure_one(&plan, *underlay, *mtu, &mut progress)?);
    }
    let seconds = plan.pace.window.as_secs_f64();
    let targets = targets::outcomes(&tables);
    let results = Results { version: 1, machine, rounds: plan.rounds, seconds, tables, targets };
    let text = table::render(&results);
    println!("{text}");
    if let Some(path) = &arguments.json {
        let json =
            serde_json::to_string_pretty(&results).map_err(|e| LabError::file(path, e.into()))?;
        write(path, &(json + "\n"))?;
    }
    if let (Some(path), Some(svg)) = (&arguments.svg, svg::render(&results)) {
        write(path, &svg)?;
    }
    arguments.markdown.as_ref().map_or(Ok(()), |path| refresh(path, &arguments.mark, &text))
}

/// What will be measured.
#[derive(Debug)]
struct Plan {
    underlays: Vec<(Underlay, u32)>,
    modes: Vec<Mode>,
    measures: Vec<Measure>,
    rounds: usize,
    pace: Pace,
}

impl Plan {
    fn new(arguments: &BenchArgs) -> Result<Self, LabError> {
        let quick = arguments.quick;
        let mut measures: Vec<Measure> = match (&arguments.only[..], quick) {
            ([], true) => QUICK.to_vec(),
            ([], false) => Measure::ALL.to_vec(),
            (words, _) => words
                .iter()
                .map(|word| match &Measure::matching(word)[..] {
                    [] => Err(LabError::Unusable(format!("--only: nothing is called {word}"))),
                    found => Ok(found.to_vec()),
                })
                .collect::<Result<Vec<_>, _>>()?
                .concat(),
        };
        measures.sort_unstable();
        measures.dedup();
        if arguments.with_iperf3 {
            if !tool::exists("iperf3") {
                return Err(tool::could_not_start("iperf3", std::io::ErrorKind::NotFound.into()));
            }
            measures.push(Measure::Iperf3);
        }
        let settings = if quick { &[Underlay::Nic][..] } else { &arguments.underlay };
        let underlays = arguments
            .mtu
            .iter()
            .flat_map(|mtu| settings.iter().map(|underlay| (*underlay, *mtu)))
            .collect();
        let seconds = if quick { arguments.seconds.min(1.0) } else { arguments.seconds };
        if !(0.1..=3600.0).contains(&seconds) || arguments.rounds == 0 {
            return Err(LabError::Unusable(
                "--seconds takes 0.1 to 3600, --rounds 1 or more".into(),
            ));
        }
        let warm_up = Duration::from_millis(if quick { 400 } else { 700 });
        Ok(Self {
            underlays,
            modes: Mode::chosen(arguments)?,
            measures,
            rounds: if quick { arguments.rounds.min(3) } else { arguments.rounds },
            pace: Pace { warm_up, window: Duration::from_secs_f64(seconds) },
        })
    }

    fn samples(&self) -> usize {
        self.underlays.len() * self.rounds * self.measures.len() * self.modes.len()
    }
}

/// Builds every mode over one underlay and takes all samples.
fn measure_one(
    plan: &Plan,
    underlay: Underlay,
    mtu: u32,
    progress: &mut Progress,
) -> Result<Table, LabError> {
    eprintln!("underlay {underlay}, MTU {mtu}: building {} labs …", plan.modes.len());
    let mut stages = Vec::new();
    let mut left_out = Vec::new();
    for mode in &plan.modes {
        match Stage::build(mode.clone(), underlay, mtu) {
            Ok(stage) => stages.push(stage),
            Err(LabError::Interrupted) => return Err(LabError::Interrupted),
            Err(error) => {
                eprintln!("{} is left out: {error}", mode.name);
                left_out.push((mode.name.clone(), error.to_string()));
            }
        }
    }
    let mut rows: Vec<Row> = plan.measures.iter().map(|measure| Row::new(*measure)).collect();
    for round in 0..plan.rounds {
        for row in &mut rows {
            // Another mode goes first in each round, so that no mode always follows the same one.
            for turn in 0..stages.len() {
                let number = (turn + round) % stages.len();
                let stage = &mut stages[number];
                interrupt::sleep(BETWEEN)?;
                let sample = take(row.measure, stage, plan.pace)?;
                progress.step(underlay, mtu, round, row.measure, &stage.mode.name, sample.as_ref());
                row.samples.entry(stage.mode.name.clone()).or_default().push(sample);
            }
        }
    }
    let modes = stages.iter().map(|stage| stage.mode.name.clone()).collect();
    Ok(Table { underlay, mtu, modes, left_out, rows })
}

/// One sample; a failure is said and leaves a gap.
fn take(measure: Measure, stage: &mut Stage, pace: Pace) -> Result<Option<Sample>, LabError> {
    match measure.sample(stage, pace) {
        Ok(sample) => Ok(Some(sample)),
        Err(LabError::Interrupted) => Err(LabError::Interrupted),
        Err(error) => {
            eprintln!("{}, {}: {error}", measure.name(), stage.mode.name);
            Ok(None)
        }
    }
}

/// How far the run is, on standard error.
#[derive(Debug)]
struct Progress {
    done: usize,
    all: usize,
    started: Instant,
}

impl Progress {
    fn step(
        &mut self,
        underlay: Underlay,
        mtu: u32,
        round: usize,
        measure: Measure,
        mode: &str,
        sample: Option<&Sample>,
    ) {
        self.done += 1;
        let rest = self.all.saturating_sub(self.done) as u32;
        let left = self.started.elapsed() / self.done as u32 * rest;
        let told = sample.map_or("failed".into(), |sample| {
            format!(
                "{:>7} {}, {:.2} {}",
                table::amount(sample.value),
                measure.unit(),
                sample.cpu,
                measure.cpu_unit()
            )
        });
        eprintln!(
            "[{}/{}, {} s left] {underlay} {mtu} round {} {:<8} {mode:<12} {told}",
            self.done,
            self.all,
            left.as_secs(),
            round + 1,
            measure.name()
        );
    }
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(|e| LabError::file(path, e))
}

/// Replaces what stands between the two marks in the file.
fn refresh(path: &Path, mark: &str, text: &str) -> Result<(), LabError> {
    let old = fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
    let new = between_marks(&old, mark, text).ok_or_else(|| {
        let [begin, end] = marks(mark);
        LabError::Unusable(format!("{}: the lines {begin} and {end} are missing", path.display()))
    })?;
    write(path, &new)
}

fn between_marks(old: &str, mark: &str, text: &str) -> Option<String> {
    let [begin, end] = marks(mark);
    let (before, rest) = old.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

fn marks(mark: &str) -> [String; 2] {
    ["begin", "end"].map(|which| format!("<!-- {mark}:{which} -->"))
}

const QUICK: [Measure; 4] = [Measure::Tcp1, Measure::Tcp4, Measure::Pps18, Measure::Rr];

/// Between two samples: connections of the last one end, spinning threads fall asleep.
const BETWEEN: Duration = Duration::from_millis(150);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_only() {
        assert_eq!(Measure::matching("tcp1"), [Measure::Tcp1]);
        assert_eq!(Measure::matching("pps"), [Measure::Pps18]);
        assert_eq!(Measure::matching("tcp").len(), 4);
        assert_eq!(Measure::matching("nonsense"), []);
    }

    #[test]
    fn only_the_marked_part_changes() {
        let [begin, end] = marks("x");
        let old = format!("a\n{begin}\nold\n{end}\nb\n");
        let new = between_marks(&old, "x", "new\n").unwrap();
        assert_eq!(new, format!("a\n{begin}\n\nnew\n\n{end}\nb\n"));
        assert_eq!(between_marks(&new, "x", "new").unwrap(), new);
        assert_eq!(between_marks(&new, "y", "new"), None);
    }
}
