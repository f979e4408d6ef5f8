//! The lease store that the packaged systemd unit gives its daemon, for commands that find no daemon running.

use std::fs;

use clap::{Args, Command, FromArgMatches};

use super::StoreArgs;
use crate::subnet::StoreOptions;

/// The file with the unit's settings: its `EnvironmentFile=`.
pub(super) const SETTINGS_FILE: &str = "/etc/default/flannel-udp";

/// The lease store that the settings file names; `None` if there is no such file, or it names none.
pub(super) fn store() -> Option<StoreOptions> {
    parse(&fs::read_to_string(SETTINGS_FILE).ok()?)
}

/// Reads `FLANNELD_*` variables and `FLANNEL_UDP_OPTS` by the rules of `EnvironmentFile=` in systemd.exec(5),
/// as far as settings of a lease store need them: no continued lines and no escapes.
fn parse(text: &str) -> Option<StoreOptions> {
    let assignments = text.lines().filter_map(|line| line.trim().split_once('='));
    let flags: Vec<String> = assignments
        .flat_map(|(name, value)| {
            let value = value.trim();
            let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
            let value = quoted.unwrap_or(value);
            match name.strip_prefix("FLANNELD_") {
                Some(flag) => vec![format!("--{}={value}", flag.to_lowercase().replace('_', "-"))],
                None if name == "FLANNEL_UDP_OPTS" => {
                    value.split_whitespace().map(str::to_owned).collect()
                }
                None => vec![],
            }
        })
        .filter(|flag| flag.starts_with("--etcd-") || flag.starts_with("--registry="))
        .collect();
    let located =
        |flag: &String| flag.starts_with("--etcd-endpoints=") || flag.starts_with("--registry=");
    flags.iter().any(located).then_some(())?;
    let command = StoreArgs::augment_args(Command::new("unit").no_binary_name(true))
        .args_override_self(true)
        .mut_args(|arg| arg.env(None));
    let matches = command.try_get_matches_from(flags).ok()?;
    Some(StoreArgs::from_arg_matches(&matches).ok()?.options())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Option<String> {
        parse(text).map(|options| options.command("x").replace("flannel-udp x ", ""))
    }

    #[test]
    fn the_store_is_read_as_systemd_reads_it() {
        let endpoints = "--etcd-endpoints=http://a:1,http://b:2 --etcd-prefix=/coreos.com/network";
        for (text, expected) in [
            ("", None),
            ("#FLANNELD_ETCD_ENDPOINTS=http://a:1", None),
            ("FLANNELD_IFACE=eth0\nFLANNELD_ETCD_PREFIX=/n", None),
            ("FLANNELD_ETCD_ENDPOINTS=http://a:1,http://b:2\n", Some(endpoints.to_owned())),
            ("FLANNELD_ETCD_ENDPOINTS='http://a:1,http://b:2'", Some(endpoints.to_owned())),
            (
                "FLANNEL_UDP_OPTS=\"--iface=eth0 --registry=file:/d\"",
                Some("--registry=file:/d".into()),
            ),
            (
                "FLANNELD_ETCD_ENDPOINTS=http://a:1,http://b:2\nFLANNEL_UDP_OPTS=--etcd-prefix=/n -v=1",
                Some(endpoints.replace("/coreos.com/network", "/n")),
            ),
            ("FLANNELD_REGISTRY=nonsense", None),
        ] {
            assert_eq!(command(text), expected, "{text}");
        }
    }

    #[test]
    fn the_unit_reads_this_file() {
        let unit = include_str!("../../packaging/systemd/flannel-udp.service");
        assert!(unit.contains(&format!("EnvironmentFile=-{SETTINGS_FILE}\n")));
    }
}
