//! Every command that is printed as a remedy runs as it is printed: its syntax is checked with the program that
//! it names, for those that `doctor` prints here and for all that stand in the source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use flannel_udp::humanize;
use flannel_udp::sys::netns::Netns;

use crate::support::exclusive;

/// A host on which commands may do what they want: its devices have the names that the tests' hosts use.
struct Scratch(Netns);

impl Scratch {
    fn new() -> Self {
        let netns =
            Netns::create(&format!("fu{}-remedy", std::process::id())).expect("a namespace");
        let scratch = Self(netns);
        for line in [
            "ip link add eth0 type veth peer name eth1",
            "ip link set eth0 up && ip link set eth1 up",
            "ip addr add 10.211.55.11/24 dev eth0",
            "ip link add docker0 type bridge",
            "ip tuntap add flannel0 mode tun && ip link set flannel0 up",
            "nft 'add table inet strict; add chain inet strict i { type filter hook input priority 5; }'",
        ] {
            let output = scratch.run(line);
            assert!(output.status.success(), "{line}: {output:?}");
        }
        scratch
    }

    fn run(&self, line: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_flannel-udp"));
        let own = program.parent().expect("a directory").display();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("timeout");
        command.args(["10", "sh", "-c", line]).env("PATH", path).stdin(std::process::Stdio::null());
        self.0.enter(|| command.output()).and_then(|output| output).expect("sh")
    }

    /// Checks one command: it runs, the kernel or a server rejects it for what is not there, or its program
    /// accepts its words.
    fn check(&self, command: &str) {
        assert!(self.run(&format!("sh -n -c {}", quoted(command))).status.success(), "{command}");
        let words = command.split_whitespace().skip_while(|word| word.contains('='));
        let words: Vec<_> = words.collect();
        let accepted = match words[0] {
            // 2 is a refusal by the kernel, anything else a word that is not understood.
            "ip" => &[0, 2][..],
            // 1 is a rule that does not exist.
            "iptables" | "iptables-nft" | "iptables-legacy" => &[0, 1],
            "sysctl" if command.contains("net.core") || command.contains("nf_conntrack_max") => {
                // Only the first namespace has these.
                let key = words[2].split('=').next().unwrap_or_default().replace('.', "/");
                assert!(Path::new("/proc/sys").join(key).exists(), "{command}");
                return;
            }
            "sysctl" | "ss" | "iptables-save" | "findmnt" => &[0],
            // A chain that is not here.
            "nft" => {
                let output = self.run(&command.replacen("nft ", "nft -c ", 1));
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(!said.contains("syntax error"), "{command}: {said}");
                return;
            }
            "ethtool" => {
                let said = self.run(command).stderr;
                let said = String::from_utf8_lossy(&said);
                assert!(!said.contains("bad command line") && !said.contains("nvalid"), "{said}");
                return;
            }
            "flannel-udp" | "etcdctl" | "systemctl" | "journalctl" | "timedatectl" => {
                let output = self.run(&format!("{command} --help"));
                assert!(output.status.success(), "{command}: {output:?}");
                return;
            }
            // They would change more than a network namespace, or wait for an answer.
            "df" | "mkdir" | "mknod" | "chmod" | "modprobe" | "ping" | "rm" | "echo"
            | "firewall-cmd" => {
                return;
            }
            other => panic!("a remedy names {other}, which this test does not know: {command}"),
        };
        let output = self.run(command);
        let code = output.status.code().unwrap_or(-1);
        // The words before a device that only the test's own host has were understood.
        let elsewhere = output.stderr.starts_with(b"Cannot find device");
        assert!(elsewhere || accepted.contains(&code), "{command}: {code}: {output:?}");
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Checks the commands of a report of `doctor`, each once.
pub fn check(commands: impl IntoIterator<Item = String>) {
    static CHECKED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut checked = CHECKED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let new: Vec<_> =
        commands.into_iter().filter(|command| checked.insert(command.clone())).collect();
    if !new.is_empty() {
        let scratch = Scratch::new();
        new.iter().for_each(|command| scratch.check(command));
    }
}

/// The values that stand for the placeholders of a command in the source, in order.
const SAMPLES: &[(&str, &[&str])] = &[
    ("ip link set {name} mtu {mtu}", &["eth0", "1400"]),
    ("ip link set {} mtu {}", &["eth0", "1400"]),
    ("ip link set {} txqueuelen 4000", &["eth0"]),
    ("ip link set {} txqueuelen 1000", &["eth0"]),
    ("ip link set {name} up", &["eth0"]),
    ("ip route add {network} dev {name}", &["10.0.0.0/16", "eth0"]),
    ("ip route del {self}", &["blackhole 10.0.9.0/24 metric 5"]),
    ("ip route get {host}", &["10.211.55.12"]),
    ("ip route show table all type {kind}", &["blackhole"]),
    ("ping -c 100 {}", &["10.211.55.12"]),
    ("ping -c 3 {host}", &["10.211.55.12"]),
    ("ss -ulnp 'sport = :{port}'", &["8285"]),
    ("ss -tlnp 'sport = :{port}'", &["10254"]),
    ("ethtool -K {name} {} on", &["eth0", "gro"]),
    ("ethtool -K {name} {SEGMENTATION} on", &["eth0", "tx-udp-segmentation"]),
    ("ethtool -K {name} {FORWARDING} on rx-gro-list off", &["eth0", "rx-udp-gro-forwarding"]),
    ("sysctl -w net.netfilter.nf_conntrack_max={}", &["262144"]),
    ("sysctl -w net.core.{name}={WANTED_BUFFER}", &["rmem_max", "8388608"]),
    ("iptables -I INPUT -p udp --dport {port} -j ACCEPT", &["8285"]),
    ("{program} -I {chain} {} -j ACCEPT", &["iptables", "OUTPUT", "-o eth0 -p udp --dport 8285"]),
    (
        "nft insert rule {table} {chain} {} accept",
        &["inet strict", "i", "iifname eth0 udp dport 8285"],
    ),
    ("firewall-cmd --permanent {open}", &["--zone=trusted --add-source=10.0.0.0/16"]),
    ("flannel-udp docker-opts -f {} -d {}", &["/run/flannel/subnet.env", "/run/docker_opts.env"]),
    ("flannel-udp leases release --force {}", &["10.0.9.0/24"]),
    ("mkdir -p {0}", &["/leases"]),
];

/// The programs that remedies name.
const PROGRAMS: &[&str] = &[
    "ip",
    "iptables",
    "iptables-save",
    "nft",
    "sysctl",
    "ss",
    "ethtool",
    "flannel-udp",
    "etcdctl",
    "systemctl",
    "journalctl",
    "timedatectl",
    "df",
    "mkdir",
    "mknod",
    "chmod",
    "modprobe",
    "ping",
    "firewall-cmd",
];

/// What in a message looks like a command and must be in backquotes.
const SUSPICIOUS: &[&str] = &[
    "ip route ",
    "ip link ",
    "ip rule",
    "iptables -",
    "nft insert",
    "sysctl -w",
    "systemctl ",
    "journalctl -u",
    "ethtool -K",
    "modprobe ",
    "etcdctl ",
    "timedatectl ",
    "flannel-udp doctor",
    "flannel-udp status",
    "flannel-udp leases",
    "flannel-udp routes",
    "flannel-udp explain",
];

#[test]
fn every_command_in_the_source_runs_as_it_is_printed() {
    let Some(_exclusive) = exclusive() else { return };
    let mut commands = BTreeSet::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).expect("a source file");
        for literal in literals(text.split("#[cfg(test)]").next().unwrap_or_default()) {
            for command in humanize::commands(&literal) {
                let first = command.split_whitespace().next().unwrap_or_default();
                if PROGRAMS.contains(&first) || command.starts_with("{program}") {
                    commands.insert(filled(command));
                }
            }
            let outside: String = literal.split('`').step_by(2).collect::<Vec<_>>().join("`");
            // A literal that begins with its program is put into backquotes by its user.
            let found = SUSPICIOUS.iter().find(|words| {
                outside.contains(*words)
                    && !outside.starts_with(words.split(' ').next().unwrap_or(words))
                    && !outside.starts_with("ETCDCTL_API=3")
            });
            assert_eq!(found, None, "{}: no backquotes: {literal}", file.display());
        }
    }
    assert!(commands.len() > 30, "{commands:#?}");
    check(commands);
}

fn filled(command: &str) -> String {
    if !command.contains('{') {
        return command.to_owned();
    }
    let sample = SAMPLES.iter().find(|(template, _)| *template == command);
    let (template, values) = sample.unwrap_or_else(|| panic!("no sample for `{command}`"));
    let mut line = String::new();
    let mut values = values.iter();
    for (at, part) in template.split('{').enumerate() {
        let part = if at == 0 { part } else { part.split_once('}').map_or("", |(_, rest)| rest) };
        line += if at == 0 { "" } else { values.next().expect("a value") };
        line += part;
    }
    line
}

/// The files whose messages an operator reads; the command line's own help is not among them.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![PathBuf::from("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            if !["src/lab", "src/args", "src/cli", "src/confine"].iter().any(|d| path.ends_with(d))
            {
                let inside = std::fs::read_dir(&path).expect("a directory");
                left.extend(inside.map(|entry| entry.expect("an entry").path()));
            }
        } else if !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

/// The string literals of a source text, comments left out.
fn literals(text: &str) -> Vec<String> {
    let code: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut literals = Vec::new();
    let mut chars = code.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        if c != '"' || before == '\'' {
            before = c;
            continue;
        }
        let mut literal = String::new();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                // A line that continues: the white space after it is no part of the text.
                '\\' if chars.peek() == Some(&'\n') => {
                    while chars.next_if(|c| c.is_whitespace()).is_some() {}
                }
                '\\' => literal.extend(chars.next()),
                c => literal.push(c),
            }
        }
        before = '"';
        literals.push(literal);
    }
    literals
}
