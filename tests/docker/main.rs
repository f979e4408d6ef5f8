//! The steps of the walkthrough: two hosts with an etcd cluster of two members, the daemon, and Docker, which
//! is configured from the daemon's files. A third host without the overlay is the outside world. Then the
//! container image (`image.rs`).
//!
//! `make test-docker` runs it; it needs root and docker.io, so plain `cargo test` leaves it out.

mod engine;
mod image;

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use engine::Engine;
use flannel_udp::lab::{self, DaemonOptions, Lab, LabProcess, StoreKind};

/// Port of every web server here.
const PORT: u16 = 8080;

/// Bytes of the file that containers fetch from each other.
const PAYLOAD: usize = 8 << 20;

#[test]
#[ignore = "needs Docker: make test-docker"]
fn containers_of_two_docker_hosts_talk() {
    let mut lab = Lab::builder().hosts(3).binary(program()).build().unwrap();
    lab.start_etcd(2, lab::CONFIG).unwrap();
    let options = DaemonOptions::with_flags(["--ip-masq=true"]).lease_store(StoreKind::Etcd);
    for host in 0..2 {
        lab.start_daemon(host, options.clone()).unwrap();
    }
    let site = make_site(lab.directory());
    let engines = [0, 1].map(|host| Engine::start_with_subnet(lab.host(host)));
    for engine in &engines {
        engine.import_busybox(lab.directory());
        engine.docker(&[
            "run",
            "-d",
            "--name",
            "web",
            "-v",
            &format!("{}:/www:ro", site.display()),
            "busybox",
            "/bin/httpd",
            "-f",
            "-vv",
            "-p",
            &PORT.to_string(),
            "-h",
            "/www",
        ]);
    }
    for host in &lab.hosts()[..2] {
        // As Docker leaves it where it finds forwarding off and turns it on.
        let policy = || lab::tool::run("iptables", &["-w", "-P", "FORWARD", "DROP"]);
        host.netns().enter(policy).unwrap().unwrap();
    }
    let web = [0, 1].map(|host| engines[host].address("web"));

    for (number, engine) in engines.iter().enumerate() {
        the_bridge_is_the_daemons(&lab, number, engine);
    }
    for (here, there) in [(0, 1), (1, 0)] {
        containers_ping_each_other(&engines[here], web[there]);
        containers_fetch_from_each_other(
            &engines[here],
            &engines[there],
            web,
            [here, there],
            &site,
        );
    }
    the_outside_sees_the_hosts_address(&lab, &engines, &site);
    a_host_reaches_remote_containers(&lab, &engines, web);

    drop(engines);
    for host in 0..2 {
        let status = lab.stop_daemon(host).unwrap();
        assert!(status.success(), "the daemon ended with {status}");
    }
}

/// docker0 has the first address of the leased subnet, and containers the overlay's MTU.
fn the_bridge_is_the_daemons(lab: &Lab, number: usize, engine: &Engine) {
    let host = lab.host(number);
    let subnet = host.daemon().unwrap().subnet().unwrap();
    let shown = lab::tool::ip_in(host.netns_name(), "-4 -o addr show dev docker0").unwrap();
    let expected = format!("{}/{}", subnet.gateway, subnet.prefix_len);
    assert!(shown.contains(&expected), "{expected}\n{shown}");
    let link = engine.docker(&["exec", "web", "/bin/ip", "link", "show", "eth0"]);
    assert!(link.contains("mtu 1472"), "{link}");
}

/// TTL 60 at the end: one hop for each host and one for each daemon.
fn containers_ping_each_other(engine: &Engine, there: Ipv4Addr) {
    let said =
        engine.docker(&["exec", "web", "/bin/ping", "-c", "3", "-W", "3", &there.to_string()]);
    assert!(said.contains("3 packets received") && said.contains("ttl=60"), "{said}");
}

/// What arrives is what was sent, and the server saw the client's own address.
fn containers_fetch_from_each_other(
    client: &Engine,
    server: &Engine,
    web: [Ipv4Addr; 2],
    [here, there]: [usize; 2],
    site: &Path,
) {
    let url = format!("http://{}:{PORT}/payload", web[there]);
    let script = format!("wget -q -O - {url} | sha256sum");
    let sum = client.docker(&["exec", "web", "/bin/sh", "-c", &script]);
    assert_eq!(first_word(&sum), sum_of(&site.join("payload")), "the payload was damaged");
    let seen = server.logs("web");
    assert!(has_client(&seen, web[here]), "no {} in: {seen}", web[here]);
}

/// Container to the outside: masqueraded to the host's address, on both hosts.
fn the_outside_sees_the_hosts_address(lab: &Lab, engines: &[Engine; 2], site: &Path) {
    let outside = lab.host(2);
    let log = outside.directory().join("httpd.log");
    let mut command = Command::new("busybox");
    command.args(["httpd", "-f", "-vv", "-p", &PORT.to_string(), "-h"]).arg(site);
    let mut server =
        LabProcess::start(outside.netns(), command, "the web server outside", log.clone()).unwrap();
    let listening =
        || outside.netns().enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).is_ok());
    server.wait_until(Duration::from_secs(5), || listening().unwrap_or(false)).unwrap();
    let url = format!("http://{}:{PORT}/index.html", outside.address());
    for (number, engine) in engines.iter().enumerate() {
        engine.docker(&["exec", "web", "/bin/wget", "-q", "-O", "-", &url]);
        let seen = std::fs::read_to_string(&log).unwrap();
        let host = lab.host(number).address();
        assert!(has_client(&seen, host), "no {host} in: {seen}");
        assert!(!has_client(&seen, engine.address("web")), "not masqueraded: {seen}");
    }
    server.stop(Duration::from_secs(3)).unwrap();
}

/// LabHost to a container of the other host: in the name of its own flannel0.
fn a_host_reaches_remote_containers(lab: &Lab, engines: &[Engine; 2], web: [Ipv4Addr; 2]) {
    let host = lab.host(0);
    let url = format!("http://{}:{PORT}/index.html", web[1]);
    let fetch = || Command::new("busybox").args(["wget", "-q", "-O", "-", &url]).output();
    let output = host.netns().enter(fetch).unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let device = host.daemon().unwrap().subnet().unwrap().cidr().network();
    let seen = engines[1].logs("web");
    assert!(has_client(&seen, device), "no {device} in: {seen}");
}

/// Whether busybox's httpd has logged a request from `address`: `[::ffff:10.0.1.2]:1234: url:/`.
fn has_client(log: &str, address: Ipv4Addr) -> bool {
    [format!(":{address}]:"), format!("{address}:")].iter().any(|client| log.contains(client))
}

/// Files for the web servers: one small, one large.
fn make_site(scratch: &Path) -> PathBuf {
    let site = scratch.join("www");
    std::fs::create_dir(&site).unwrap();
    std::fs::write(site.join("index.html"), "over the overlay\n").unwrap();
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    })
    .take(PAYLOAD / 8)
    .flatten()
    .collect();
    std::fs::write(site.join("payload"), payload).unwrap();
    site
}

fn sum_of(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    first_word(&String::from_utf8(output.stdout).unwrap()).to_owned()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("")
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_flannel-udp")
}
