//! `flannel-udp demo` and `flannel-udp bench`, which leave nothing behind.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flannel_udp::lab::{have_privilege, tool};
use flannel_udp::sys::process::{Signal, signal};

#[test]
fn the_demo_moves_packets_and_cleans_up() {
    for extra in [&[][..], &["--etcd"], &["--mtu=9000", "--underlay=veth"]] {
        let Some(demo) = start(&[&["demo", "--megabytes=3", "--seconds=1"], extra].concat()) else {
            return;
        };
        let pid = demo.id();
        let output = end(demo);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.matches("TTL 60").count(), 2, "{said}");
        assert_eq!(said.matches("equal").count(), 2, "{said}");
        assert_eq!(said.contains("etcd"), extra.contains(&"--etcd"));
        nothing_left(pid);
    }
}

#[test]
fn a_lab_that_is_interrupted_or_killed_leaves_nothing() {
    for (wish, code) in [(Signal::Terminate, Some(130)), (Signal::Kill, None)] {
        let Some(demo) = start(&["demo", "--seconds=60"]) else { return };
        let pid = demo.id();
        wait_until("its namespaces", || namespaces_of(pid) == 4);
        // Long enough for daemons to run, or to be about to.
        std::thread::sleep(Duration::from_millis(500));
        signal(&demo, wish).unwrap();
        assert_eq!(end(demo).status.code(), code);
        wait_until("nothing left", || namespaces_of(pid) == 0);
        nothing_left(pid);
    }
}

#[test]
fn what_is_kept_can_be_removed() {
    let Some(demo) = start(&["demo", "--keep", "--megabytes=1", "--seconds=1"]) else { return };
    let pid = demo.id();
    assert!(end(demo).status.success());
    assert_eq!(namespaces_of(pid), 4);
    let node = format!("fu{pid}-0-node1");
    let running = tool::run("ip", &["netns", "pids", &node]).unwrap();
    assert_eq!(running.lines().count(), 1, "one daemon: {running}");
    // Only this one: a developer may have kept another.
    let other = end(start(&["demo", "--remove=fu1-0"]).unwrap());
    assert!(String::from_utf8_lossy(&other.stdout).contains("nothing was left running"));
    assert_eq!(namespaces_of(pid), 4);
    let removed = end(start(&["demo", &format!("--remove=fu{pid}-0")]).unwrap());
    assert!(String::from_utf8_lossy(&removed.stdout).contains(&node));
    nothing_left(pid);
}

#[test]
fn the_bench_measures_and_writes_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    std::fs::write(file("x.md"), "before <!-- bench:begin --><!-- bench:end --> after").unwrap();
    let arguments = [
        "bench",
        "--underlay=nic",
        "--only=tcp1,pps18,rr",
        "--modes=underlay,flannel-udp,off",
        "--rounds=1",
        "--seconds=0.3",
        &format!("--json={}", file("x.json")),
        &format!("--svg={}", file("x.svg")),
        &format!("--markdown={}", file("x.md")),
    ];
    let Some(bench) = start(&arguments) else { return };
    let output = end(bench);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("x.json")).unwrap();
    let rows = json["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        for mode in ["underlay", "flannel-udp", "off"] {
            assert!(row["samples"][mode][0]["value"].as_f64().unwrap() > 0.0, "{mode}: {row}");
        }
    }
    let calls = |row: usize, mode: &str| {
        rows[row]["samples"][mode][0]["calls_per_packet"].as_f64().expect("calls")
    };
    let plain = calls(0, "off");
    assert!(plain >= 1.9, "off is one packet a system call: {plain}");
    let lone = calls(2, "flannel-udp");
    assert!(lone < 2.25, "a lone packet is sent before the next one is looked for: {lone}");
    assert_eq!(json["version"], 1);
    let targets = json["targets"].as_array().unwrap();
    let names: Vec<_> = targets.iter().map(|target| target["what"].as_str().unwrap()).collect();
    assert_eq!(names, ["tcp1 (Gbit/s)", "pps18 (packets/s)"], "those against `off`");
    assert!(read("x.md").contains("### Targets"));
    assert!(read("x.svg").ends_with("</svg>\n"));
    assert!(read("x.md").contains("**Verdict**: on this machine"));
    assert!(read("x.md").ends_with(" after"));
}

/// Starts the program with these arguments; `None`, after a line on standard error, where no lab can be built.
fn start(arguments: &[&str]) -> Option<Child> {
    if let Err(missing) = have_privilege() {
        eprintln!("SKIPPED: no network namespaces here: {missing}");
        return None;
    }
    let started = Command::new(env!("CARGO_BIN_EXE_flannel-udp"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Some(started.unwrap())
}

fn end(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

fn nothing_left(pid: u32) {
    assert_eq!(namespaces_of(pid), 0);
    let files = std::env::temp_dir().join(format!("flannel-udp-lab-fu{pid}-0"));
    wait_until("its files to go", || !files.exists());
}

fn namespaces_of(pid: u32) -> usize {
    let listed = tool::run("ip", &["netns", "list"]).unwrap();
    listed.lines().filter(|line| line.starts_with(&format!("fu{pid}-"))).count()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(15), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
