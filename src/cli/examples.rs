//! Examples of every command, for `--help` and for the manual pages.

/// A command line, and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// The words of the command behind the program's name, such as `leases list`; empty for the daemon.
    of: &'static str,
    /// What the command line is for, as a clause without a full stop.
    pub purpose: &'static str,
    /// The line for a shell, as root.
    pub line: &'static str,
}

/// The examples of a command and of its subcommands, by its words behind the program's name.
pub fn examples(command: &str) -> impl Iterator<Item = &'static Example> {
    EXAMPLES.iter().filter(move |example| {
        let rest = example.of.strip_prefix(command);
        rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with(' ') && !command.is_empty()))
    })
}

/// Appends the examples to the help of a command and of its subcommands.
pub(super) fn with_examples(command: clap::Command, words: &str) -> clap::Command {
    let command = command.mut_subcommands(|tool| {
        let words = format!("{words} {}", tool.get_name());
        with_examples(tool, words.trim_start())
    });
    let examples: Vec<_> = examples(words)
        .map(|example| format!("  # {}\n  {}\n", example.purpose, example.line))
        .collect();
    if examples.is_empty() {
        return command;
    }
    let examples = format!("Examples:\n{}", examples.join("\n"));
    // A text for `--help` alone takes the examples; `-h` is short then.
    match command.get_after_long_help().map(ToString::to_string) {
        Some(before) => command.after_long_help(format!("{before}\n\n{examples}")),
        None => {
            let before = command.get_after_help().map(|text| format!("{text}\n\n"));
            command.after_help(before.unwrap_or_default() + &examples)
        }
    }
}

/// Two hosts as in docs/walkthrough.md: node1, 10.211.55.10, has the subnet 10.0.13.0/24, and node2, 10.211.55.11,
/// has 10.0.14.0/24. `make test-systemd` runs these lines on two such hosts.
const EXAMPLES: &[Example] = &[
    example(
        "",
        "Run the daemon with leases in etcd and masquerading",
        "flannel-udp --etcd-endpoints=http://10.211.55.10:2379 --iface=eth0 --ip-masq",
    ),
    example(
        "",
        "Write the network config of a cluster without etcd to a shared directory",
        "echo '{\"Network\": \"10.0.0.0/16\", \"Backend\": {\"Type\": \"udp\"}}' >/mnt/config",
    ),
    example(
        "",
        "Run the daemon with leases in that directory",
        "flannel-udp --registry=file:/mnt --iface=10.211.55.10",
    ),
    example(
        "",
        "Run it under systemd, with the flags in /etc/default/flannel-udp",
        "systemctl enable --now flannel-udp",
    ),
    example("demo", "Two hosts on this machine, removed at the end", "flannel-udp demo"),
    example("demo", "Keep them running for a closer look", "flannel-udp demo --keep"),
    example("demo", "Remove what --keep left running", "flannel-udp demo --remove"),
    example("bench", "A short comparison with kernel VXLAN", "flannel-udp bench --quick"),
    example(
        "bench",
        "The effect of a flag on round trips and on one TCP stream",
        "flannel-udp bench --only tcp1,rr --modes flannel-udp --variant one=--workers=1",
    ),
    example("status", "Problems, lease, features, traffic and drops", "flannel-udp status"),
    example(
        "status",
        "The same as JSON, without waiting to measure rates",
        "flannel-udp status --json --interval=0",
    ),
    example(
        "status",
        "One line for each host whose metrics are given",
        "flannel-udp status --all 10.211.55.10:9285 10.211.55.11:9285",
    ),
    example("peers", "Traffic to and from every host in the last second", "flannel-udp peers"),
    example("peers", "The same, repeated until Ctrl-C", "flannel-udp peers --watch"),
    example(
        "ping",
        "Ping a host through the overlay and on the underlay",
        "flannel-udp ping 10.211.55.11",
    ),
    example("ping", "Ping a container on another host", "flannel-udp ping -c 20 10.0.14.5"),
    example("routes", "Which host has which subnet", "flannel-udp routes"),
    example(
        "explain",
        "What happens to a request from a container here to one on another host",
        "flannel-udp explain 10.0.13.2 10.0.14.5 tcp 80",
    ),
    example("top", "Rates, peers, drops and threads, until q is pressed", "flannel-udp top"),
    example("top", "One screen as text", "flannel-udp top --once"),
    example(
        "capture",
        "Record ten seconds of a container's traffic",
        "flannel-udp capture --host=10.0.13.2 --duration=10 -w container.pcapng",
    ),
    example(
        "capture",
        "Show dropped packets live, each with its reason",
        "flannel-udp capture --verdict=dropped",
    ),
    example("log-level", "Log in detail", "flannel-udp log-level debug"),
    example("log-level", "Print the level in force", "flannel-udp log-level"),
    example("docker-opts", "Write /run/docker_opts.env", "flannel-udp docker-opts"),
    example("docker-opts", "Print the options", "flannel-udp docker-opts -d /dev/stdout"),
    example(
        "cleanup",
        "Print what a stopped daemon has left behind",
        "flannel-udp cleanup --dry-run",
    ),
    example("cleanup", "Remove it", "flannel-udp cleanup"),
    example(
        "leases list",
        "Which host holds which subnet, and until when",
        "flannel-udp leases list",
    ),
    example(
        "leases reserve",
        "Reserve a subnet for a host permanently",
        "flannel-udp leases reserve 10.0.77.0/24 10.211.55.77",
    ),
    example(
        "leases release",
        "Free the subnet of a host that is gone",
        "flannel-udp leases release 10.0.77.0/24",
    ),
    example("doctor", "Check everything", "flannel-udp doctor"),
    example(
        "doctor",
        "Check this host without probing the others",
        "flannel-udp doctor --peers=no",
    ),
    example(
        "bugreport",
        "Collect what a bug report needs, without secrets",
        "flannel-udp bugreport report.tar.gz",
    ),
    example(
        "completions",
        "Complete commands and flags in the current bash",
        "source <(flannel-udp completions bash)",
    ),
];

const fn example(of: &'static str, purpose: &'static str, line: &'static str) -> Example {
    Example { of, purpose, line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Invocation, clap_command, parse_from};

    /// The words of every command behind the program's name.
    fn commands(command: &clap::Command, words: &str, all: &mut Vec<String>) {
        for tool in command.get_subcommands().filter(|tool| !tool.is_hide_set()) {
            let words = format!("{words} {}", tool.get_name()).trim_start().to_owned();
            commands(tool, &words, all);
            all.push(words);
        }
    }

    #[test]
    fn every_command_has_an_example() {
        let mut all = vec![String::new()];
        commands(&clap_command(), "", &mut all);
        for words in &all {
            let name = format!("flannel-udp {words}");
            assert!(
                examples(words).next().is_some(),
                "`{name}` has no example: add one to EXAMPLES"
            );
        }
        for example in EXAMPLES {
            assert!(all.iter().any(|words| words == example.of), "no such command: {example:?}");
        }
    }

    #[test]
    fn every_example_is_a_command_line_of_its_command() {
        for example in EXAMPLES {
            // With its indentation it is not wrapped in a terminal of 80 columns.
            assert!(example.line.len() <= 78 && example.purpose.len() <= 76, "{example:?}");
            let command = example.line.split(['|', '>']).next().unwrap_or_default();
            let Some(args) = command.strip_prefix("flannel-udp") else { continue };
            assert!(args.trim_start().starts_with(example.of), "{example:?}");
            let args = command.split_whitespace().map(Into::into);
            let parsed =
                parse_from(args, |_| None).unwrap_or_else(|e| panic!("{example:?}: {e:?}"));
            assert_eq!(matches!(parsed, Invocation::Daemon(_)), example.of.is_empty());
        }
    }

    #[test]
    fn help_ends_with_the_examples() {
        let help = |args: &[&str]| {
            let args = ["flannel-udp"].iter().chain(args).map(Into::into);
            format!("{:?}", parse_from(args, |_| None).expect_err("help"))
        };
        for args in [
            &["--help"][..],
            &["leases", "list", "--help"],
            &["status", "-h"],
            &["doctor", "--help"],
        ] {
            assert!(help(args).contains("Examples:"), "{args:?}");
        }
        assert!(!help(&["-h"]).contains("Examples:"));
        // What was there before stays.
        assert!(help(&["doctor", "--help"]).contains("Exit code:"));
    }
}
