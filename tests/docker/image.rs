//! The container image: daemons in containers of two Docker engines, which share their hosts' networks.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flannel_udp::lab::{self, Lab, LabHost};

use super::engine::Engine;

/// One host passes the TUN device to the container; on the other, the daemon makes the device node.
#[test]
#[ignore = "needs Docker: make test-docker"]
fn containers_of_the_image_carry_packets() {
    let archive = PathBuf::from(std::env::var_os("FLANNEL_UDP_IMAGE").expect("make test-docker"));
    let mut lab = Lab::builder().hosts(2).binary(super::program()).build().unwrap();
    lab.start_etcd(1, lab::CONFIG).unwrap();
    let etcd = lab.host(0).address();
    let engines =
        [0, 1].map(|host| Engine::start(lab.host(host), ["--bridge=none", "--iptables=false"]));
    for engine in &engines {
        let loaded = engine.docker(&["load", "-i", &archive.display().to_string()]);
        assert!(loaded.contains("flannel-udp:latest"), "{loaded}");
    }
    the_image_has_its_tools(&engines[0]);
    without_the_right_to_make_the_node_it_says_so(&engines[1]);

    let made = ["--device-cgroup-rule", "c 10:200 rwm"];
    let given = ["--device", "/dev/net/tun"];
    for ((engine, host), device) in engines.iter().zip(lab.hosts()).zip([given, made]) {
        run(engine, host, device, etcd);
    }
    let subnets = [0, 1].map(|host| subnet(lab.host(host), &engines[host]));
    for (here, there) in [(0, 1), (1, 0)] {
        // The first address of a subnet is that of its host's flannel0.
        let device = Ipv4Addr::from(u32::from(subnets[there]) & !0xff).to_string();
        let ping = || lab::tool::run("ping", &["-c", "3", "-i", "0.2", "-W", "2", &device]);
        wait_for("a reply through the overlay", || {
            lab.host(here).netns().enter(ping).unwrap().is_ok()
        });
    }
    for engine in &engines {
        let rules = engine.docker(&["exec", "flannel", "iptables", "-t", "nat", "-S"]);
        assert!(rules.contains("MASQUERADE"), "{rules}");
        let status = engine.docker(&["exec", "flannel", "flannel-udp", "peers"]);
        assert!(status.contains("10.211.55."), "{status}");
    }
    assert!(engines[1].logs("flannel").contains("created the device node"));
    for engine in &engines {
        engine.docker(&["stop", "-t", "10", "flannel"]);
        let code = engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", "flannel"]);
        assert_eq!(code.trim(), "0", "{}", engine.logs("flannel"));
    }
}

/// Both kinds of iptables, nft, and the description that registries show.
fn the_image_has_its_tools(engine: &Engine) {
    for (program, args, words) in [
        ("iptables", &["-V"][..], "nf_tables"),
        ("/usr/lib/flannel-udp/legacy/iptables", &["-V"], "legacy"),
        ("iptables", &["-j", "MASQUERADE", "-m", "comment", "--help"], "--random-fully"),
        ("iptables", &["-m", "conntrack", "--help"], "--ctstate"),
        ("nft", &["--version"], "nftables v"),
        ("flannel-udp", &["--version"], "v"),
    ] {
        let words_of = [
            &[
                "run",
                "--rm",
                "--network=none",
                "--cap-add=NET_ADMIN",
                "--entrypoint",
                program,
                IMAGE,
            ],
            args,
        ]
        .concat();
        let said = engine.docker(&words_of);
        assert!(said.contains(words), "{program} {args:?}: {said}");
    }
    let labels = engine.docker(&["inspect", "-f", "{{json .Config.Labels}}", IMAGE]);
    for label in ["title", "version", "revision", "source", "licenses"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}")), "{labels}");
    }
}

fn without_the_right_to_make_the_node_it_says_so(engine: &Engine) {
    let rights = ["--network=host", "--cap-add=NET_ADMIN", "--cap-drop=MKNOD"];
    engine.docker(&[&["run", "-d", "--name", "poor"], &rights[..], &[IMAGE]].concat());
    assert_eq!(engine.docker(&["wait", "poor"]).trim(), "72");
    let said = engine.logs("poor");
    assert!(
        said.contains("is missing and cannot be created") && said.contains("--device"),
        "{said}"
    );
}

fn run(engine: &Engine, host: &LabHost, device: [&str; 2], etcd: Ipv4Addr) {
    let files = format!("{}:/run/flannel", run_directory(host).display());
    engine.docker(
        &[
            &["run", "-d", "--name", "flannel", "--network=host", "--cap-add=NET_ADMIN"][..],
            &device,
            &["-v", &files, "--add-host", &format!("etcd.example:{etcd}"), IMAGE],
            &["--etcd-endpoints=http://etcd.example:2379", "--ip-masq"],
            &[&format!("--iface={}", host.address())],
        ]
        .concat(),
    );
}

fn run_directory(host: &LabHost) -> PathBuf {
    host.directory().join("flannel")
}

/// The address of the subnet that the container wrote down for the host.
fn subnet(host: &LabHost, engine: &Engine) -> Ipv4Addr {
    let file = run_directory(host).join("subnet.env");
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("FLANNEL_SUBNET="))?;
        line.split_once('/')?.0.parse().ok()
    };
    wait_for(&format!("a subnet: {}", engine.logs("flannel")), || read(&file).is_some());
    read(&file).unwrap()
}

#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const IMAGE: &str = "flannel-udp";
