//! Docker's bridge and options, compared with this host's lease: `docker_opts.env`, `daemon.json`,
//! the arguments of the running dockerd, and the bridge itself.

use std::net::Ipv4Addr;
use std::path::Path;

use super::facts::HostFacts;
use super::finding::Finding;
use crate::host::netlink::{KernelRoute, Link};
use crate::host::subnet_file::variable;

/// The options for dockerd from one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DockerOptions {
    bip: Option<String>,
    mtu: Option<String>,
    ip_masq: Option<String>,
}

/// Compares the options from every source with the subnet file.
pub(super) fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    if facts.file.subnet.is_none() {
        return vec![];
    }
    let mut findings = Vec::new();
    let path = &facts.args.docker_env;
    if let Ok(text) = std::fs::read_to_string(path) {
        let remedy = format!(
            "`flannel-udp docker-opts -f {} -d {}`; `systemctl restart docker`",
            facts.args.subnet_file.path.display(),
            path.display()
        );
        let options = from_environment(&text);
        findings.push(compare(facts, &path.display().to_string(), &options, &remedy));
    }
    let restart = "EnvironmentFile=-/run/docker_opts.env and $DOCKER_OPTS in docker's ExecStart; \
                   `systemctl restart docker`";
    let running = running();
    for (pid, options) in &running {
        findings.push(compare(facts, &format!("dockerd (pid {pid})"), options, restart));
    }
    if !running.is_empty()
        && let Ok(text) = std::fs::read_to_string(DAEMON_JSON)
    {
        let options = from_json(&text);
        if options != DockerOptions::default() {
            findings.push(compare(
                facts,
                DAEMON_JSON,
                &options,
                "remove bip and mtu from that file",
            ));
        }
    }
    findings.extend(bridge(facts));
    findings
}

fn compare(facts: &HostFacts<'_>, source: &str, options: &DockerOptions, remedy: &str) -> Finding {
    let bip = facts.variable("FLANNEL_SUBNET");
    let mtu = facts.variable("FLANNEL_MTU");
    // Exactly one of docker and the daemon must masquerade.
    let masq = facts.variable("FLANNEL_IPMASQ").map(|masq| (masq != "true").to_string());
    let mut wrong = Vec::new();
    let mut fault = false;
    for (name, has, wants) in [
        ("--bip", &options.bip, bip),
        ("--mtu", &options.mtu, mtu),
        ("--ip-masq", &options.ip_masq, masq),
    ] {
        let (Some(has), Some(wants)) = (has, wants) else { continue };
        if *has != wants {
            wrong.push(format!("{name} is {has} and should be {wants}"));
            let smaller = name == "--mtu"
                && has.parse::<u32>().ok().zip(wants.parse().ok()).is_some_and(|(h, w)| h < w);
            // A smaller MTU only costs throughput; a second masquerade hides the client's address.
            fault |= !smaller && name != "--ip-masq";
        }
    }
    match (wrong.is_empty(), fault) {
        (true, _) if *options == DockerOptions::default() => Finding::note(
            source,
            "--bip, --mtu and --ip-masq are not set: its containers are outside the overlay",
        )
        .remedy(remedy),
        (true, _) => Finding::ok(source, "its options match the subnet file"),
        (_, true) => Finding::fault(source, wrong.join("; ")).remedy(remedy),
        (_, false) => Finding::warning(source, wrong.join("; ")).remedy(remedy),
    }
}

/// Returns whether a route exists only because the bridge has an address that [`check`] reports as
/// wrong.
pub(super) fn explains(facts: &HostFacts<'_>, route: &KernelRoute) -> bool {
    let bridge = facts.links.iter().find(|link| link.name == BRIDGE);
    facts.file.subnet.is_some()
        && route.gateway.is_none()
        && bridge.is_some_and(|bridge| {
            route.oif == Some(bridge.index)
                && facts
                    .variable("FLANNEL_SUBNET")
                    .is_some_and(|wants| !addresses(facts, bridge).contains(&wants))
        })
}

fn addresses(facts: &HostFacts<'_>, link: &Link) -> Vec<String> {
    let its = facts.addresses.iter().filter(|address| address.index == link.index);
    its.map(|address| format!("{}/{}", address.local, address.prefix_len)).collect()
}

/// The bridge must have the first address of the subnet, and no port may send packets longer than
/// the overlay's MTU.
fn bridge(facts: &HostFacts<'_>) -> Option<Finding> {
    let link = facts.links.iter().find(|link| link.name == BRIDGE)?;
    let wants = facts.variable("FLANNEL_SUBNET")?;
    let restart = "`systemctl restart docker`, with the options of /run/docker_opts.env";
    let has = addresses(facts, link);
    if !has.contains(&wants) {
        let has = if has.is_empty() { "none".into() } else { has.join(" ") };
        let text = format!("its address is {has} and should be {wants}");
        return Some(Finding::fault(BRIDGE, text).remedy(restart));
    }
    let mtu: u32 = facts.variable("FLANNEL_MTU")?.parse().ok()?;
    let is_port = |port: &&Link| port.controller == Some(link.index);
    let longest = facts.links.iter().filter(is_port).map(|l| l.mtu).max();
    Some(match longest {
        Some(longest) if longest > mtu => Finding::fault(
            BRIDGE,
            format!(
                "containers behind it send packets of up to {longest} bytes; the overlay carries at most \
                 {mtu}"
            ),
        )
        .remedy(format!("{restart}; containers must be recreated")),
        _ => Finding::ok(BRIDGE, format!("{wants}, MTU {}", link.mtu)),
    })
}

/// Parses `DOCKER_OPTS` and `DOCKER_OPT_*` of `docker_opts.env`.
fn from_environment(text: &str) -> DockerOptions {
    let mut options = DockerOptions::default();
    for name in ["DOCKER_OPTS", "DOCKER_OPT_BIP", "DOCKER_OPT_MTU", "DOCKER_OPT_IPMASQ"] {
        if let Some(value) = variable(text, name) {
            options.take(value.split_whitespace().map(str::to_owned));
        }
    }
    options
}

fn from_json(text: &str) -> DockerOptions {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else {
        return DockerOptions::default();
    };
    let field = |name: &str| match &json[name] {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    DockerOptions { bip: field("bip"), mtu: field("mtu"), ip_masq: field("ip-masq") }
}

/// Finds every dockerd in this network namespace, with its options.
fn running() -> Vec<(u32, DockerOptions)> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let here = namespace("self");
    crate::host::ports::processes()
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words =
                line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into_owned());
            let program = words.next()?;
            let is_docker = Path::new(&program).file_name()? == "dockerd";
            (is_docker && namespace(&pid.to_string()) == here).then(|| {
                let mut options = DockerOptions::default();
                options.take(words);
                (pid, options)
            })
        })
        .collect()
}

impl DockerOptions {
    /// Reads options from arguments: `--bip=X` or `--bip X`; a boolean option without a value is
    /// true.
    fn take(&mut self, words: impl Iterator<Item = String>) {
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut next = || value.clone().or_else(|| words.next_if(|w| !w.starts_with('-')));
            match name.as_str() {
                "--bip" => self.bip = next(),
                "--mtu" => self.mtu = next(),
                "--ip-masq" => self.ip_masq = Some(value.unwrap_or_else(|| "true".into())),
                _ => {}
            }
        }
        for option in [&mut self.bip, &mut self.mtu, &mut self.ip_masq] {
            *option = option.take().map(|value| value.trim_matches('"').to_owned());
        }
        // The value is compared as text with that of subnet.env, so anything but ADDRESS/LENGTH is
        // dropped.
        self.bip = self.bip.take().filter(|bip| {
            bip.split_once('/').is_some_and(|(ip, _)| ip.parse::<Ipv4Addr>().is_ok())
        });
    }
}

const BRIDGE: &str = "docker0";
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_all_spellings() {
        let wanted = DockerOptions {
            bip: Some("10.0.13.1/24".into()),
            mtu: Some("1472".into()),
            ip_masq: Some("false".into()),
        };
        for text in [
            "DOCKER_OPTS=\" --bip=10.0.13.1/24 --ip-masq=false --mtu=1472\"\n",
            "DOCKER_OPT_BIP=\"--bip=10.0.13.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\n\
             DOCKER_OPT_MTU=\"--mtu=1472\"\n",
        ] {
            assert_eq!(from_environment(text), wanted);
        }
        let mut options = DockerOptions::default();
        let words = ["-H", "fd://", "--bip", "10.0.13.1/24", "--mtu", "1472", "--ip-masq=false"];
        options.take(words.map(str::to_owned).into_iter());
        assert_eq!(options, wanted);
        let json = r#"{"bip": "10.0.13.1/24", "mtu": 1472, "ip-masq": false}"#;
        assert_eq!(from_json(json), wanted);
        assert_eq!(from_json("{"), DockerOptions::default());
    }
}
