//! The command line as an operator of flanneld writes it.

use std::collections::HashMap;

use super::*;
use crate::daemon::Options;
use crate::daemon::Workers;
use crate::dataplane::{CheckMode, Offloads};
use crate::subnet::StoreKind;

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, Exit> {
    let env: HashMap<_, _> = env.iter().copied().collect();
    let args = std::iter::once("flannel-udp").chain(args.iter().copied()).map(OsString::from);
    parse_from(args, |name| env.get(name).map(OsString::from))
}

fn daemon(args: &[&str], env: &[(&str, &str)]) -> Options {
    match run(args, env) {
        Ok(Invocation::Daemon(options)) => *options,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn usage_error(args: &[&str], env: &[(&str, &str)]) -> String {
    match run(args, env) {
        Err(Exit { code: Code::Usage, message }) => message,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

#[test]
fn defaults_are_flannels() {
    let o = daemon(&[], &[]);
    assert_eq!(o.store.etcd_endpoints, ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]);
    assert_eq!(o.store.etcd_prefix, "/coreos.com/network");
    assert_eq!(
        (
            &o.store.etcd_cafile,
            &o.store.etcd_certfile,
            &o.store.etcd_keyfile,
            &o.store.etcd_username,
            &o.store.etcd_password
        ),
        (&None, &None, &None, &None, &None)
    );
    assert!(o.iface.is_empty() && o.iface_regex.is_empty());
    assert_eq!((o.iface_can_reach, o.public_ip), (None, None));
    assert!(!o.ip_masq && o.iptables_forward_rules && !o.ip_masq_fully_random_disable);
    assert!(!o.ip_blackhole_route);
    assert_eq!(o.subnet_file.path.to_str(), Some("/run/flannel/subnet.env"));
    assert_eq!((o.healthz_ip.to_string().as_str(), o.healthz_port), ("0.0.0.0", 0));
    assert_eq!(o.resync_period().as_secs(), 5);
    assert_eq!(o.renew_margin().as_secs(), 3600);
    assert_eq!(o.log_level(), "info");
    assert_eq!(o.store.registry, StoreKind::Etcd);
    assert_eq!(o.workers, Workers::Auto);
    assert_eq!(o.offload, Offloads::AUTO);
    assert_eq!(o.source_check, CheckMode::Peers);
    assert_eq!(o.tun_name, "flannel%d");
    assert!(o.warnings.is_empty());
}

#[test]
fn the_walkthroughs_command_line() {
    let o = daemon(
        &[
            "--etcd-endpoints=http://10.211.55.10:2379,http://10.211.55.11:2379",
            "--iface=10.211.55.10",
            "--ip-masq=true",
            "--etcd-prefix=/coreos.com/network",
        ],
        &[],
    );
    assert_eq!(o.store.etcd_endpoints, ["http://10.211.55.10:2379", "http://10.211.55.11:2379"]);
    assert_eq!(o.iface, ["10.211.55.10"]);
    assert!(o.ip_masq);
}

#[test]
fn every_boolean_form() {
    for (args, expected) in [
        (&["-ip-masq"][..], true),
        (&["--ip-masq"], true),
        (&["--ip-masq=1"], true),
        (&["--ip-masq=T"], true),
        (&["--ip-masq=TRUE"], true),
        (&["-ip-masq=true"], true),
        (&["-ip-masq=0"], false),
        (&["--ip-masq=F"], false),
        (&["--ip-masq=False"], false),
        (&["--ip-masq", "--ip-masq=false"], false),
    ] {
        assert_eq!(daemon(args, &[]).ip_masq, expected, "{args:?}");
    }
    assert!(!daemon(&["-iptables-forward-rules=false"], &[]).iptables_forward_rules);
}

#[test]
fn both_spellings_and_repeats() {
    let o = daemon(&["-iface", "eth0", "--iface=eth1", "-iface-regex", "-x", "-v=1"], &[]);
    assert_eq!(o.iface, ["eth0", "eth1"]);
    assert_eq!(o.iface_regex, ["-x"]);
    assert_eq!(o.log_level(), "debug");
    // An address in Go's other spelling.
    let mapped = daemon(&["-public-ip=::ffff:10.0.0.1"], &[]).public_ip;
    assert_eq!(mapped, Some([10, 0, 0, 1].into()));
    // The last one of a flag that is not a list wins, as in Go.
    assert_eq!(daemon(&["-etcd-prefix=/a", "-etcd-prefix=/b"], &[]).store.etcd_prefix, "/b");
}

/// A list in one flag is one value: a second flag replaces it, whichever has more elements.
#[test]
fn the_last_list_of_endpoints_wins() {
    let endpoints = |args: &[&str], env: &[(&str, &str)]| daemon(args, env).store.etcd_endpoints;
    assert_eq!(endpoints(&["-etcd-endpoints=a:1,b:1", "--etcd-endpoints", "c:1"], &[]), ["c:1"]);
    assert_eq!(endpoints(&["-etcd-endpoints=c:1", "-etcd-endpoints=a:1,b:1"], &[]), ["a:1", "b:1"]);
    let env = [("FLANNELD_ETCD_ENDPOINTS", "a:1,b:1")];
    assert_eq!(endpoints(&["-etcd-endpoints=c:1"], &env), ["c:1"]);
    assert_eq!(endpoints(&[], &env), ["a:1", "b:1"]);
    for args in [
        &["leases", "list", "--etcd-endpoints=a:1,b:1", "--etcd-endpoints=c:1"][..],
        &["doctor", "--etcd-endpoints=a:1,b:1", "--etcd-endpoints=c:1"],
    ] {
        let said = format!("{:?}", run(args, &[]));
        assert!(said.contains(r#"etcd_endpoints: ["c:1"]"#), "{said}");
    }
}

/// The daemon and every command that takes an endpoint refuse one that is none, and show no password.
#[test]
fn an_endpoint_that_is_no_url_is_a_usage_error() {
    for tool in [&[][..], &["leases", "list"], &["doctor"]] {
        for (bad, words) in [
            ("htp://a:2379", "unknown scheme `htp`; use http or https"),
            ("http://b:2379,http://user:hunter2@a", "http://a is not of the form http://host:port"),
            ("a:70000", "such as http://10.0.0.1:2379"),
        ] {
            let flag = format!("--etcd-endpoints={bad}");
            let error = usage_error(&[tool, &[&*flag]].concat(), &[]);
            assert!(error.contains("--etcd-endpoints: ") && error.contains(words), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
    let error = usage_error(&[], &[("FLANNELD_ETCD_ENDPOINTS", "https://user:hunter2@a")]);
    assert!(error.contains("FLANNELD_ETCD_ENDPOINTS") && !error.contains("hunter2"), "{error}");
    assert!(run(&["--etcd-endpoints= http://a:1/ , b:2,"], &[]).is_ok());
}

/// A wrapper passes a variable that is not set as a flag with an empty value.
#[test]
fn an_empty_text_flag_is_not_given() {
    let flags: Vec<String> = clap_command()
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .filter(|name| Flags::of(&clap_command()).takes_text(name))
        .collect();
    assert!(flags.len() > 20, "{flags:?}");
    let defaults = format!("{:?}", daemon(&[], &[]));
    for name in &flags {
        for form in [format!("-{name}="), format!("--{name}=")] {
            assert_eq!(format!("{:?}", daemon(&[&form], &[])), defaults, "{form}");
        }
        for form in [format!("-{name}"), format!("--{name}")] {
            assert_eq!(format!("{:?}", daemon(&[&form, ""], &[])), defaults, "{form} ''");
        }
        let variable = format!("FLANNELD_{}", name.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(format!("{:?}", daemon(&[], &[(&variable, "")])), defaults, "{variable}");
    }
    // What else is given stays: another flag of the name, and the variable.
    assert_eq!(daemon(&["-iface=", "-iface=eth1", "-iface="], &[]).iface, ["eth1"]);
    assert_eq!(daemon(&["-etcd-prefix=/a", "-etcd-prefix="], &[]).store.etcd_prefix, "/a");
    assert_eq!(daemon(&["-iface="], &[("FLANNELD_IFACE", "eth1")]).iface, ["eth1"]);
    // The commands take the same flags.
    let plain = format!("{:?}", run(&["leases", "list"], &[]));
    let empty = ["--etcd-cafile=", "list", "--etcd-prefix", "", "--etcd-endpoints="];
    assert_eq!(format!("{:?}", run(&[&["leases"], &empty[..]].concat(), &[])), plain);
    let plain = format!("{:?}", run(&["status"], &[]));
    assert_eq!(format!("{:?}", run(&["status", "--socket", ""], &[])), plain);
    // A number or a boolean has no empty value, as in Go; an empty --socket disables the socket.
    for arg in ["-healthz-port=", "-v=", "-ip-masq=", "-iptables-resync="] {
        assert!(usage_error(&[arg], &[]).contains(arg.trim_matches(['-', '='])), "{arg}");
    }
    assert_eq!(daemon(&["-socket="], &[]).socket, Some(crate::args::ListenPath::Disabled));
}

#[test]
fn environment() {
    let o = daemon(&[], &[("FLANNELD_IFACE", "eth1"), ("FLANNELD_IP_MASQ", "true")]);
    assert_eq!((o.iface.as_slice(), o.ip_masq), (&["eth1".to_owned()][..], true));
    // One element, no comma list.
    assert_eq!(daemon(&[], &[("FLANNELD_IFACE", "a,b")]).iface, ["a,b"]);
    // The flag wins, also over a list.
    assert_eq!(daemon(&["-iface=eth0"], &[("FLANNELD_IFACE", "eth1")]).iface, ["eth0"]);
    assert!(!daemon(&["-ip-masq=false"], &[("FLANNELD_IP_MASQ", "1")]).ip_masq);
    // Empty is unset.
    assert_eq!(
        daemon(&[], &[("FLANNELD_ETCD_PREFIX", "")]).store.etcd_prefix,
        "/coreos.com/network"
    );
    // A prefix of another flag's name does not count as that flag.
    assert_eq!(daemon(&["-iface-regex=x"], &[("FLANNELD_IFACE", "eth1")]).iface, ["eth1"]);
}

#[test]
fn bad_environment_values() {
    for (variable, value) in [
        ("FLANNELD_IP_MASQ", "bogus"),
        ("FLANNELD_HEALTHZ_PORT", "abc"),
        ("FLANNELD_SUBNET_LEASE_RENEW_MARGIN", "1h"),
    ] {
        let o = daemon(&[], &[(variable, value)]);
        assert_eq!(o.warnings.len(), 1, "{variable}");
        assert!(o.warnings[0].contains(variable) && o.warnings[0].contains(value));
        assert!(!o.ip_masq && o.healthz_port == 0 && o.subnet_lease_renew_margin == 60);
    }
    for (variable, value) in [
        ("FLANNELD_PUBLIC_IP", "bogus"),
        ("FLANNELD_SUBNET_LEASE_RENEW_MARGIN", "1440"),
        ("FLANNELD_WORKERS", "many"),
    ] {
        assert!(usage_error(&[], &[(variable, value)]).contains(variable));
    }
}

#[test]
fn usage_errors() {
    for (args, part) in [
        (&["-nosuch"][..], "--nosuch"),
        (&["--nosuch=1"], "--nosuch"),
        (&["-ip-masq=maybe"], "maybe"),
        (&["-ip-masq", "true"], "--name=false"),
        (&["-healthz-port=abc"], "abc"),
        (&["-healthz-port=70000"], "70000"),
        (&["-subnet-lease-renew-margin=0"], "out of range"),
        (&["-subnet-lease-renew-margin=1440"], "out of range"),
        (&["-public-ip=bogus"], "bogus"),
        (&["-public-ip=10.0.0.+1"], "10.0.0.+1"),
        (&["-public-ip=fd00::1"], "fd00::1"),
        (&["-public-ipv6=fd00::1"], "--public-ipv6"),
        (&["-iface"], "--iface"),
        (&["-log-level=loud=very"], "loud"),
        (&["-tun-name=far-too-long-for-linux"], "15 bytes"),
        (&["-tun-name=a%s"], "%d"),
        (&["-healthz-ip=eth0"], "such as 127.0.0.1"),
        (&["-metrics-addr=9285"], "such as 127.0.0.1:9285"),
        (&["-spin=fast"], "such as 50us or 1ms"),
        (&["-workers=-1"], "such as --workers=2"),
        (&["-subnet-lease-renew-margin=1h"], "an integer from 1 to 1439"),
        (&["stray"], "stray"),
        (&["-ip-masq", "status"], "a command must come first"),
    ] {
        let message = usage_error(args, &[]);
        assert!(message.contains(part), "{args:?}: {message}");
    }
}

#[test]
fn kubernetes_flags_get_one_clear_sentence() {
    for arg in [
        "-kube-subnet-mgr",
        "-kube-api-url=http://x",
        "-kubeconfig-file=/x",
        "-kube-annotation-prefix=x",
        "-net-config-path=/x",
        "-set-node-network-unavailable=false",
        "-use-multi-cluster-cidr",
    ] {
        let message = usage_error(&[arg], &[]);
        assert!(message.contains("Kubernetes subnet manager"), "{arg}: {message}");
        assert_eq!(message.lines().count(), 1);
    }
    // flannel's own defaults, spelled out, change nothing.
    daemon(
        &[
            "-kube-subnet-mgr=false",
            "-kube-api-url=",
            "-set-node-network-unavailable=true",
            "-net-config-path=/etc/kube-flannel/net-conf.json",
            "-vmodule=main=2",
            "-log_backtrace_at=",
        ],
        &[],
    );
}

#[test]
fn help_and_version_end_well() {
    for arg in ["-help", "--help", "help"] {
        let Err(exit) = run(&[arg], &[("FLANNELD_PUBLIC_IP", "bogus")]) else { panic!() };
        assert_eq!(exit.code, Code::Ok);
        for heading in ["Lease store:", "Interface:", "Firewall:", "Data path:", "Monitoring:"] {
            assert!(exit.message.contains(heading), "{heading}");
        }
    }
    for arg in ["-version", "--version", "-V"] {
        let Err(exit) = run(&[arg], &[]) else { panic!() };
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        assert_eq!((exit.code, exit.message.as_str()), (Code::Ok, version), "{arg}");
    }
}

#[test]
fn the_summary_fits_on_a_page() {
    for args in [&["-h"][..], &["--h"], &["-ip-masq", "-h"]] {
        let Err(exit) = run(args, &[("FLANNELD_PUBLIC_IP", "bogus")]) else { panic!() };
        assert_eq!(exit.code, Code::Ok);
        let lines = exit.message.lines().count();
        assert!(lines <= 60, "{lines} lines:\n{}", exit.message);
        for part in ["doctor", "--etcd-endpoints", "--iface", "--ip-masq", "flannel-udp --help"] {
            assert!(exit.message.contains(part), "{part}:\n{}", exit.message);
        }
        assert!(!exit.message.contains("--worker-threads"), "{}", exit.message);
    }
}

#[test]
fn a_word_in_first_place_is_a_command() {
    for (args, part) in [
        (&["staus"][..], "'status'"),
        (&["statsu", "--json"], "'status'"),
        (&["peer"], "'peers'"),
        (&["logs-level", "debug"], "'log-level'"),
        (&["stray"], "unrecognized subcommand 'stray'"),
        (&["leases", "lst"], "'list'"),
        (&["help", "staus"], "staus"),
    ] {
        let message = usage_error(args, &[]);
        assert!(message.contains(part), "{args:?}: {message}");
    }
    for args in
        [&["help"][..], &["help", "status"], &["help", "leases", "list"], &["leases", "help"]]
    {
        let Err(exit) = run(args, &[]) else { panic!() };
        assert!(exit.code == Code::Ok && exit.message.contains("Usage:"), "{args:?}: {exit}");
    }
}

#[test]
fn workers_and_spin_take_what_an_operator_writes() {
    assert_eq!(daemon(&["--workers=0"], &[]).workers, Workers::Auto);
    assert_eq!(daemon(&["--spin=1ms"], &[]).spin_time(), std::time::Duration::from_millis(1));
    let o = daemon(&[], &[("FLANNELD_SPIN", "50us")]);
    assert_eq!(o.spin_time(), std::time::Duration::from_micros(50));
}

#[test]
fn tools() {
    assert!(matches!(run(&["demo", "--etcd"], &[]), Ok(Invocation::Tool(_))));
    assert!(matches!(run(&["docker-opts", "-c", "-k", "X"], &[]), Ok(Invocation::Tool(_))));
    assert!(matches!(run(&["leases", "list", "--json"], &[]), Ok(Invocation::Tool(_))));
    assert!(matches!(run(&["completions", "bash"], &[]), Ok(Invocation::Tool(_))));
    let args = ["/usr/local/bin/mk-docker-opts.sh", "-i"].map(OsString::from);
    assert!(matches!(parse_from(args, |_| None), Ok(Invocation::Tool(_))));
}

#[test]
fn a_password_is_not_printed() {
    let o = daemon(&["-etcd-password=hunter2"], &[]);
    assert_eq!(o.store.etcd_password.as_ref().map(|p| p.reveal()), Some("hunter2"));
    assert!(!format!("{o:?}").contains("hunter2"));
}

#[test]
fn the_description_is_sound() {
    clap_command().debug_assert();
    // Neither the manual page nor the completions leave out what `-h` does.
    assert!(clap_command().get_arguments().all(|arg| !arg.is_hide_short_help_set()));
    assert!(SUMMARY.iter().all(|id| clap_command().get_arguments().any(|arg| arg.get_id() == id)));
}

#[test]
fn an_empty_variable_is_unset_for_commands_too() {
    let leases = |command: clap::Command| {
        let leases = command.find_subcommand("leases").expect("a command").clone();
        leases.get_arguments().filter(|arg| arg.get_env().is_some()).count()
    };
    assert!(leases(clap_command()) > 0);
    let empty = |_: &str| Some(OsString::new());
    assert_eq!(leases(without_empty_variables(clap_command(), &empty)), 0);
    // The daemon's own variables are never read by clap.
    assert!(clap_command().get_arguments().all(|arg| arg.get_env().is_none()));
}
