//! Metrics as a real Prometheus reads them: the dashboard's queries have answers, the rules work.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use flannel_udp::lab::{self, DaemonOptions, Lab, LabProcess};
use flannel_udp::sys::netns::Netns;
use serde_json::Value;

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, flow, wait_for};

/// Prometheus' own port, in the namespace of the first host.
const PROMETHEUS: u16 = 9090;
/// The daemons' port for health checks and metrics.
const METRICS: u16 = 9285;

/// A page; `None` if it cannot be had.
fn get(netns: &Netns, address: SocketAddr, path: &str) -> Option<(u16, String, String)> {
    netns
        .enter(|| {
            let mut stream = TcpStream::connect(address).ok()?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            let (head, body) = text.split_once("\r\n\r\n")?;
            let status = head.split(' ').nth(1)?.parse().ok()?;
            Some((status, head.to_ascii_lowercase(), body.to_owned()))
        })
        .expect("the namespace")
}

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring")
}

#[test]
fn one_port_for_health_and_metrics_or_two() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    // From the first moment, before there is a network config.
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let one = ["--healthz-ip=127.0.0.1", "--healthz-port=9285", "--metrics-addr=127.0.0.1:9285"];
    let two = ["--healthz-port=9286", "--metrics-addr=127.0.0.1:9285"];
    std::fs::create_dir_all(lab.store_directory()).expect("a directory");
    for (host, flags, health) in [(0, &one[..], METRICS), (1, &two[..], 9286)] {
        lab.spawn_daemon(host, DaemonOptions::with_flags(flags)).expect("a daemon");
        let netns = lab.host(host).netns();
        wait_for("health", Duration::from_secs(10), || {
            get(netns, address(health), "/healthz").is_some_and(|(status, ..)| status == 200)
        });
        let (status, head, text) = get(netns, address(METRICS), "/metrics").expect("metrics");
        assert_eq!(status, 200);
        assert!(
            head.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{head}"
        );
        assert!(text.contains("\nflannel_udp_ready 0\n") && text.ends_with("# EOF\n"), "{text}");
        let other = get(netns, address(health), "/metrics").expect("an answer").0;
        assert_eq!(other, if health == METRICS { 200 } else { 404 });
    }
    // A port that is taken is an error with words.
    let daemon = lab.host_mut(0).daemon_mut().expect("a daemon");
    let pid = daemon.pid();
    let netns = lab.host(0).netns();
    let mut second = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    let dir = lab.directory().join("second");
    second.arg(format!("--registry=file:{}", dir.display()));
    second.arg(format!("--subnet-file={}", dir.join("subnet.env").display()));
    second.args(["--socket=", "--metrics-addr=127.0.0.1:9285"]);
    let output = netns.enter(|| second.output()).expect("the namespace").expect("the program");
    assert_eq!(output.status.code(), Some(69), "beside {pid}: {output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("for metrics on 127.0.0.1:9285 (--metrics-addr)"), "{said}");
}

#[test]
fn prometheus_answers_every_query_of_the_dashboard() {
    let Some(_exclusive) = exclusive() else { return };
    if !lab::tool::exists("prometheus") || !lab::tool::exists("promtool") {
        let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
        assert!(!required, "prometheus is missing (scripts/setup.sh)");
        let _ = writeln!(std::io::stderr(), "SKIPPED: prometheus is missing (scripts/setup.sh)");
        return;
    }
    promtool(&["check", "rules", "flannel-udp.rules.yml"]);
    promtool(&["test", "rules", "flannel-udp.rules.test.yml"]);

    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.create_store_directory(lab::CONFIG).expect("a directory");
    for host in 0..2 {
        let address = format!("--metrics-addr={}:{METRICS}", lab.host(host).address());
        lab.start_daemon(host, DaemonOptions::with_flags([address])).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    let _prometheus = prometheus(&lab);
    let netns = lab.host(0).netns();
    let expressions = expressions();
    assert!(expressions.len() > 25, "{expressions:?}");

    // Traffic, and looks at what Prometheus has made of it, until each query has an answer.
    let began = Instant::now();
    let mut open = expressions;
    while !open.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "no data for {open:#?}");
        flow::in_order(lab.endpoint(0), lab.endpoint(1), 200, |_| 800);
        flow::in_order(lab.endpoint(1), lab.endpoint(0), 200, |_| 800);
        open.retain(|expression| !has_data(netns, expression));
        std::thread::sleep(Duration::from_millis(200));
    }

    // What it has stored is what the daemon counted.
    let expression = "flannel_udp_carried_packets_total{direction=\"egress\"}";
    let carried = query(netns, expression);
    let first = &carried["data"]["result"][0]["value"][1];
    let packets: f64 = first.as_str().expect("a value").parse().expect("a number");
    assert!(packets >= 200.0, "{carried:#}");
    // Every rule is evaluated without an error, and a host that goes is an alert.
    let rules = api(netns, "/api/v1/rules").expect("rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.len() >= 13 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    lab.stop_daemon(1).expect("its end");
    wait_for("an alert", Duration::from_secs(10), || {
        !query(netns_of(&lab), "ALERTS{alertname=\"FlannelUdpDown\"}")["data"]["result"]
            .as_array()
            .expect("results")
            .is_empty()
    });
}

fn netns_of(lab: &TestLab) -> &Netns {
    lab.host(0).netns()
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool").args(args).current_dir(monitoring()).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {args:?}: {text}");
}

/// Prometheus in the first host's namespace, looking at both daemons.
fn prometheus(lab: &TestLab) -> LabProcess {
    let host = lab.host(0);
    let config = host.directory().join("prometheus.yml");
    let targets: Vec<String> =
        lab.hosts().iter().map(|host| format!("\"{}:{METRICS}\"", host.address())).collect();
    let text = format!(
        "global: {{scrape_interval: 400ms, scrape_timeout: 400ms, evaluation_interval: 500ms}}\n\
         rule_files: [\"{}/flannel-udp.rules.yml\"]\n\
         scrape_configs:\n  - job_name: flannel-udp\n    static_configs: [{{targets: [{}]}}]\n",
        monitoring().display(),
        targets.join(", ")
    );
    std::fs::write(&config, text).expect("a config");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", host.directory().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{PROMETHEUS}"))
        .arg("--log.level=warn");
    let log = host.directory().join("prometheus.log");
    let process = LabProcess::start(host.netns(), command, "prometheus", log).expect("prometheus");
    wait_for("prometheus", Duration::from_secs(15), || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PROMETHEUS));
        get(host.netns(), address, "/-/ready").is_some_and(|(status, ..)| status == 200)
    });
    process
}

/// Every query of the dashboard, with Grafana's variables filled in.
fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(monitoring().join("flannel-udp.dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets
        .map(|target| {
            let expression = target["expr"].as_str().expect("an expression");
            expression.replace("$instance", ".*").replace("$__rate_interval", "5s")
        })
        .collect()
}

fn has_data(netns: &Netns, expression: &str) -> bool {
    let answer = query(netns, expression);
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    let results = answer["data"]["result"].as_array().expect("results");
    results.iter().any(|result| result["value"][1].as_str().is_some_and(|v| v != "NaN"))
}

fn query(netns: &Netns, expression: &str) -> Value {
    let escaped: String = expression
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    api(netns, &format!("/api/v1/query?query={escaped}")).expect("an answer of Prometheus")
}

fn api(netns: &Netns, path: &str) -> Option<Value> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PROMETHEUS));
    let (_, _, body) = get(netns, address, path)?;
    serde_json::from_str(&body).ok()
}
