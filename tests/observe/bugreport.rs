//! `bugreport`: one archive, whole with and without a daemon, and without secrets.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use flannel_udp::lab::{self, Lab};

use crate::support::exclusive;
use crate::support::test_lab::{TestLab, etcd};

/// Secrets as the daemon and the command get them: by flag, by variable, in a URL, in a file.
const PLANTED: [&str; 5] =
    ["hunter2-flag", "hunter2 variable", "hunter2-url", "hunter2-token", "hunter2-log"];

/// Writes a report from the first host and returns its files, and what the command said.
fn report(lab: &TestLab, name: &str) -> (BTreeMap<String, String>, String) {
    let host = lab.host(0);
    let file = host.directory().join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    command.arg("bugreport").arg(&file).stdin(Stdio::null());
    command.arg("--socket").arg(host.directory().join("flannel-udp.sock"));
    command.env("FLANNELD_ETCD_PASSWORD", PLANTED[1]).env("REGISTRY_TOKEN", PLANTED[3]);
    let output =
        host.netns().enter(|| command.output()).and_then(|output| output).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout.is_empty(), "{said}");
    let mode = std::fs::metadata(&file).expect("the archive").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    (unpacked(&file), said)
}

fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let into = archive.with_extension("files");
    std::fs::create_dir_all(&into).expect("a directory");
    let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&into).status();
    assert!(tar.expect("tar").success());
    let folders: Vec<_> = std::fs::read_dir(&into).expect("the folder").collect();
    let [Ok(folder)] = &folders[..] else { panic!("one folder: {folders:?}") };
    let files = std::fs::read_dir(folder.path()).expect("files").map(|file| {
        let file = file.expect("a file");
        let text = std::fs::read_to_string(file.path()).expect("text");
        (file.file_name().to_string_lossy().into_owned(), text)
    });
    files.collect()
}

#[track_caller]
fn has_no_secret(files: &BTreeMap<String, String>) {
    for (name, text) in files {
        for secret in PLANTED {
            assert!(!text.contains(secret), "{secret} is in {name}:\n{text}");
        }
    }
}

#[test]
fn an_archive_without_secrets() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    let address = lab.etcd().expect("etcd").endpoints()[0].clone();
    let with_user = address.replace("://", &format!("://root:{}@", PLANTED[2]));
    let flags = [
        format!("--etcd-endpoints={with_user}"),
        "--etcd-username=root".into(),
        format!("--etcd-password={}", PLANTED[0]),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    lab.start_daemon(0, etcd(&flags)).expect("the daemon");
    // A comment of a firewall rule is text that anybody may have written.
    let rule = format!("-A INPUT -p udp --dport 9 -m comment --comment token={}", PLANTED[4]);
    let rule: Vec<&str> = rule.split(' ').collect();
    TestLab::run(lab.host(0).netns(), "iptables", &rule);

    let (files, said) = report(&lab, "running.tar.gz");
    has_no_secret(&files);
    let subnet = lab.subnet(0).to_string();
    for (name, words) in [
        ("report.txt", "status.txt"),
        ("version.txt", env!("CARGO_PKG_VERSION")),
        ("status.txt", &subnet),
        ("status.json", "\"warnings\""),
        ("routes.txt", "here (flannel0)"),
        ("doctor.txt", " ok;"),
        ("leases.txt", &subnet),
        ("iptables.txt", "--dport 9"),
        ("addresses.txt", "flannel0"),
        ("kernel-routes.txt", "dev flannel0"),
        ("sysctls.txt", "==> /proc/sys/net/ipv4/ip_forward\n"),
        ("process.txt", "--etcd-username=root\n"),
        ("process.txt", "--etcd-password=(removed)"),
        ("system.txt", "Linux"),
    ] {
        let text = files.get(name).unwrap_or_else(|| panic!("no {name}: {said}"));
        assert!(text.contains(words), "{name}: no {words} in\n{text}");
    }
    assert!(said.contains("wrote ") && said.contains("Review the archive"), "{said}");

    // Without a daemon the rest is there, and what is missing is named.
    lab.stop_daemon(0).expect("its end");
    let (files, said) = report(&lab, "stopped.tar.gz");
    has_no_secret(&files);
    assert!(files["report.txt"].contains("no running daemon"), "{}", files["report.txt"]);
    assert!(
        files["addresses.txt"].contains("lo:") && files["doctor.txt"].contains(" fault"),
        "{said}"
    );
    assert!(said.contains("status.txt: exit status: 69: "), "{said}");

    // A file that cannot be written is an error of its own.
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    let output = command.args(["bugreport", "/proc/none/report.tar.gz"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(73), "{output:?}");
}
