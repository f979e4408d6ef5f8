//! Rows of `docs/operations.md` about a directory of leases: one that refuses, and one with a stranger in it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions};

use crate::doctor_lab::PEER;
use crate::operations::{row, status, status_row};
use crate::support::test_lab::TestLab;
use crate::support::wait_for;

/// A directory without a network config, whose file the log names; then one that the daemon may read only.
pub fn refused_by_the_store(lab: &mut TestLab) {
    let dir = lab.host(PEER).directory().join("leases");
    let flag = format!("--registry=file:{}", dir.display());
    lab.spawn_daemon(PEER, DaemonOptions::with_flags([flag.as_str()])).expect("a daemon");
    wait_for("a hint", Duration::from_secs(10), || lab.log(PEER).contains("Write it:"));
    row("journalctl -u flannel-udp", "Write it:", &lab.log(PEER));
    assert!(lab.log(PEER).contains("leases/config\"") && !lab.log(PEER).contains("etcd"));
    lab.stop_daemon(PEER).expect("a stop");
    for (name, content) in [("config", lab::CONFIG), (".lock", "")] {
        std::fs::write(dir.join(name), content).expect("a file");
    }
    let allow = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&dir, allow(0o555)).expect("its mode");
    lab.spawn_daemon(PEER, DaemonOptions::with_flags([flag.as_str()])).expect("a daemon");
    let meaning = "refuses this host: permission denied";
    status_row(lab, PEER, meaning);
    std::fs::set_permissions(&dir, allow(0o755)).expect("its mode");
    wait_for("the end of the warning", Duration::from_secs(20), || {
        let said = status(lab, PEER);
        said.contains("lease ") && !said.contains(meaning)
    });
    TestLab::run(
        lab.host(PEER).netns(),
        "mkfifo",
        &[&dir.join("subnets/10.0.99.0-24").display().to_string()],
    );
    let meaning = "a FIFO, not a file";
    wait_for(meaning, Duration::from_secs(10), || lab.log(PEER).contains(meaning));
    row("journalctl -u flannel-udp", meaning, &lab.log(PEER));
    lab.stop_daemon(PEER).expect("a stop");
}
