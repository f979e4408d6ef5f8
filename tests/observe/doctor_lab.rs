//! Hosts with daemons, `doctor` run on one of them, and damage that is done and repaired.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flannel_udp::lab::{self, Lab};
use serde_json::Value;

use crate::remedies;
use crate::support::test_lab::TestLab;
use crate::support::wait_for;

/// The host on which `doctor` runs, and a peer of it; etcd runs on the remaining host.
pub const HERE: usize = 1;
pub const PEER: usize = 2;

/// Three hosts with daemons. The daemon on the examined host installs no forward rules, so that a
/// test can decide whether forwarded packets are accepted.
pub fn doctor_lab() -> TestLab {
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    for host in [0, PEER] {
        lab.join(host, &[]);
    }
    lab.join(HERE, &["--iptables-forward-rules=false"]);
    lab.meet(HERE, PEER);
    lab.meet(HERE, 0);
    lab
}

/// Flags to examine the host without its peers.
pub const ALONE: &[&str] = &["--peers=no"];

/// The findings of a run of `doctor`.
#[derive(Debug)]
pub struct Diagnosis {
    pub code: Option<i32>,
    pub findings: Vec<Value>,
    pub took: Duration,
    pub text: String,
}

impl Diagnosis {
    /// Returns whether there is a finding of this level whose check and text contain these words.
    pub fn has(&self, level: &str, check: &str, words: &str) -> bool {
        self.find(level, check, words).is_some()
    }

    /// The commands of the remedy of such a finding, which must be there.
    #[track_caller]
    pub fn commands(&self, level: &str, check: &str, words: &str) -> Vec<String> {
        let finding = self.find(level, check, words);
        let finding = finding.unwrap_or_else(|| panic!("{level} {check} {words}: {}", self.text));
        let commands = strings(&finding["commands"]);
        assert!(!commands.is_empty(), "{finding:#}");
        commands
    }

    fn find(&self, level: &str, check: &str, words: &str) -> Option<&Value> {
        let part = |finding: &Value, key: &str, text: &str| {
            finding[key].as_str().is_some_and(|value| value.contains(text))
        };
        self.findings.iter().find(|finding| {
            finding["level"] == level
                && part(finding, "check", check)
                && part(finding, "finding", words)
        })
    }

    pub fn worse_than_note(&self) -> Vec<&Value> {
        let bad = |finding: &&Value| finding["level"] == "fault" || finding["level"] == "warning";
        self.findings.iter().filter(bad).collect()
    }
}

/// The daemon's flags for the lease store and its files.
fn flags(lab: &mut TestLab) -> Vec<String> {
    let endpoints = lab.etcd().expect("etcd").endpoints().join(",");
    let directory = lab.host(HERE).directory().display().to_string();
    vec![
        format!("--etcd-endpoints={endpoints}"),
        format!("--subnet-file={directory}/subnet.env"),
        format!("--docker-env={directory}/docker_opts.env"),
        format!("--socket={directory}/flannel-udp.sock"),
    ]
}

pub fn examine(lab: &mut TestLab, more: &[&str]) -> Diagnosis {
    examine_by(lab, &[], more)
}

/// Runs `doctor`, optionally through another program such as `setpriv`.
pub fn examine_by(lab: &mut TestLab, through: &[&str], more: &[&str]) -> Diagnosis {
    let program = env!("CARGO_BIN_EXE_flannel-udp");
    let words: Vec<&str> = through.iter().copied().chain([program, "doctor", "--json"]).collect();
    let own = flags(lab);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(own).args(more).stdin(Stdio::null());
    let begun = Instant::now();
    let netns = lab.host(HERE).netns();
    let output = netns.enter(|| command.output()).and_then(|output| output).expect("doctor runs");
    let took = begun.elapsed();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let report: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["version"], 1, "{text}");
    let findings = report["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| group["findings"].as_array().expect("findings").clone());
    let diagnosis =
        Diagnosis { code: output.status.code(), findings: findings.collect(), took, text };
    let worst = match report["worst"].as_str() {
        Some("fault") => 1,
        Some("warning") => 2,
        _ => 0,
    };
    assert_eq!(diagnosis.code, Some(worst), "{}", diagnosis.text);
    remedies::check(diagnosis.findings.iter().flat_map(|finding| strings(&finding["commands"])));
    diagnosis
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Does damage, expects the finding, repairs the damage, and expects the finding to go.
#[track_caller]
pub fn with(
    lab: &mut TestLab,
    more: &[&str],
    harm: impl Fn(&mut TestLab),
    (level, check, words): (&str, &str, &str),
    mend: impl Fn(&mut TestLab),
) {
    harm(lab);
    let broken = examine(lab, more);
    assert!(broken.has(level, check, words), "{level} {check} {words}: {}", broken.text);
    mend(lab);
    // Some damage is repaired only by the daemon's next check.
    wait_for(&format!("{check} is mended"), Duration::from_secs(8), || {
        !examine(lab, more).has(level, check, words)
    });
}

#[track_caller]
pub fn ip(lab: &TestLab, host: usize, line: &str) {
    lab::tool::ip_in(lab.host(host).netns_name(), line).expect(line);
}

/// Runs a command line in the host's namespace, which must succeed.
#[track_caller]
pub fn sh(lab: &TestLab, host: usize, line: &str) {
    let netns = lab.host(host).netns();
    let output = netns
        .enter(|| Command::new("sh").args(["-c", line]).output())
        .and_then(|output| output)
        .expect("sh");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn write(lab: &TestLab, name: &str, text: &str) -> String {
    let path = lab.host(HERE).directory().join(name);
    std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect(name);
    path.display().to_string()
}
