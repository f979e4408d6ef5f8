//! `flannel-udp bench`: the tunnel compared with kernel VXLAN and the plain underlay.
//!
//! Every mode has a testbed of its own. Each round measures all modes in turn and ratios are taken within
//! a round, so that drift of the machine affects all modes alike.

mod args;
mod calls;
mod cpu;
mod iperf3;
mod machine;
mod measure;
mod mode;
mod poller;
mod results;
mod sample;
mod summary;
mod svg;
mod table;
mod targets;
mod testbed;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

pub use args::BenchArgs;
use machine::Machine;
use measure::Measure;
use mode::Mode;
use results::{MeasureRow, Results, Table};
use sample::{BenchSample, Timing};
use testbed::Testbed;

use super::{LabError, UnderlayKind, interrupt, privilege, tool};

/// Runs the benchmark, prints the tables and writes the files.
pub(super) fn run(arguments: &BenchArgs) -> Result<(), LabError> {
    let plan = Plan::new(arguments)?;
    privilege::ensure()?;
    let machine = Machine::inspect()?;
    if let Some(warning) = machine.warning() {
        eprintln!("warning: {warning}");
    }
    let mut progress = Progress { done: 0, all: plan.samples(), started: Instant::now() };
    let mut tables = Vec::new();
    for (underlay, mtu) in &plan.underlays {
        tables.push(measure_one(&plan, *underlay, *mtu, &mut progress)?);
    }
    let seconds = plan.timing.window.as_secs_f64();
    // Three rounds of a second decide nothing.
    let targets = if arguments.quick { vec![] } else { targets::outcomes(&tables) };
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
    if let Some(short) = summary::render(&results) {
        let mark = format!("{}-summary", arguments.mark);
        arguments.summary.iter().try_for_each(|path| refresh(path, &mark, &short))?;
    }
    arguments.markdown.as_ref().map_or(Ok(()), |path| refresh(path, &arguments.mark, &text))
}

/// What a run measures.
#[derive(Debug)]
struct Plan {
    underlays: Vec<(UnderlayKind, u32)>,
    modes: Vec<Mode>,
    measures: Vec<Measure>,
    rounds: usize,
    timing: Timing,
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
                    [] => Err(LabError::Unusable(format!("--only: unknown measure {word}"))),
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
        let settings = if quick { &[UnderlayKind::Nic][..] } else { &arguments.underlay };
        let underlays = arguments
            .mtu
            .iter()
            .flat_map(|mtu| settings.iter().map(|underlay| (*underlay, *mtu)))
            .collect();
        let seconds = if quick { arguments.seconds.min(1.0) } else { arguments.seconds };
        if !(0.1..=3600.0).contains(&seconds) || arguments.rounds == 0 {
            return Err(LabError::Unusable(
                "--seconds must be 0.1 to 3600, --rounds 1 or more".into(),
            ));
        }
        let warm_up = Duration::from_millis(if quick { 400 } else { 700 });
        Ok(Self {
            underlays,
            modes: Mode::chosen(arguments)?,
            measures,
            rounds: if quick { arguments.rounds.min(3) } else { arguments.rounds },
            timing: Timing { warm_up, window: Duration::from_secs_f64(seconds) },
        })
    }

    fn samples(&self) -> usize {
        self.underlays.len() * self.rounds * self.measures.len() * self.modes.len()
    }
}

/// Builds a testbed for every mode on one underlay and takes all samples.
fn measure_one(
    plan: &Plan,
    underlay: UnderlayKind,
    mtu: u32,
    progress: &mut Progress,
) -> Result<Table, LabError> {
    eprintln!("underlay {underlay}, MTU {mtu}: building {} testbeds …", plan.modes.len());
    let mut testbeds = Vec::new();
    let mut left_out = Vec::new();
    for mode in &plan.modes {
        match Testbed::build(mode.clone(), underlay, mtu) {
            Ok(testbed) => testbeds.push(testbed),
            Err(LabError::Interrupted) => return Err(LabError::Interrupted),
            Err(error) => {
                eprintln!("skipping mode {}: {error}", mode.name);
                left_out.push((mode.name.clone(), error.to_string()));
            }
        }
    }
    let mut rows: Vec<MeasureRow> =
        plan.measures.iter().map(|measure| MeasureRow::new(*measure)).collect();
    for round in 0..plan.rounds {
        for row in &mut rows {
            // Each round begins with another mode, so that no mode always follows the same one.
            for turn in 0..testbeds.len() {
                let number = (turn + round) % testbeds.len();
                let testbed = &mut testbeds[number];
                interrupt::sleep(BETWEEN)?;
                let sample = take(row.measure, testbed, plan.timing)?;
                progress.step(
                    underlay,
                    mtu,
                    round,
                    row.measure,
                    &testbed.mode.name,
                    sample.as_ref(),
                );
                row.samples.entry(testbed.mode.name.clone()).or_default().push(sample);
            }
        }
    }
    let name = |testbed: &Testbed| testbed.mode.name.clone();
    let modes = testbeds.iter().map(name).collect();
    let variants = testbeds.iter().filter(|testbed| testbed.mode.is_variant).map(name).collect();
    let encrypted = testbeds.iter().filter(|testbed| testbed.mode.encrypts()).map(name).collect();
    Ok(Table { underlay, mtu, modes, variants, encrypted, left_out, rows })
}

/// Takes one sample; prints a failure and returns `None` for it.
fn take(
    measure: Measure,
    testbed: &mut Testbed,
    timing: Timing,
) -> Result<Option<BenchSample>, LabError> {
    match measure.sample(testbed, timing) {
        Ok(sample) => Ok(Some(sample)),
        Err(LabError::Interrupted) => Err(LabError::Interrupted),
        Err(error) => {
            eprintln!("{}, {}: {error}", measure.name(), testbed.mode.name);
            Ok(None)
        }
    }
}

/// The progress of a run, printed to standard error.
#[derive(Debug)]
struct Progress {
    done: usize,
    all: usize,
    started: Instant,
}

impl Progress {
    fn step(
        &mut self,
        underlay: UnderlayKind,
        mtu: u32,
        round: usize,
        measure: Measure,
        mode: &str,
        sample: Option<&BenchSample>,
    ) {
        self.done += 1;
        let rest = self.all.saturating_sub(self.done) as u32;
        let left = self.started.elapsed() / self.done as u32 * rest;
        let result = sample.map_or("failed".into(), |sample| {
            format!(
                "{:>7} {}, {:.2} {}",
                table::amount(sample.value),
                measure.unit(),
                sample.cpu,
                measure.cpu_unit()
            )
        });
        eprintln!(
            "[{}/{}, {} s left] {underlay} {mtu} round {} {:<8} {mode:<12} {result}",
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

/// Replaces the text between the two marks in the file.
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

/// Pause between two samples, in which connections of the last one end and polling threads sleep.
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
