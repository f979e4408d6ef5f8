//! The device node `/dev/net/tun`, which the daemon makes where it is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab};

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, program, wait_for};

#[test]
fn a_missing_device_node_is_made() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    let options =
        DaemonOptions { binary: Some(without_node(&lab, "rw", "")), ..DaemonOptions::default() };
    lab.start_daemons(&options).expect("the daemons");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    assert!(lab.log(0).contains("created the device node"), "{}", lab.log(0));
    let pid = lab.host(0).daemon().unwrap().pid();
    let node = fs::metadata(format!("/proc/{pid}/root/dev/net/tun")).expect("the node");
    assert_eq!(node.permissions().mode() & 0o777, 0o600);
    // A device that is created again needs the node again, which the confined daemon could not make.
    let host = lab.host(0).netns_name().to_owned();
    lab::tool::ip_in(&host, "link del flannel0").expect("no device");
    lab.meet(0, 1);
}

#[test]
fn a_device_node_that_cannot_be_made_or_used_is_an_error() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    for (mount, bounding, code, words) in [
        (
            "rw",
            "setpriv --bounding-set=-mknod",
            72,
            "is missing and cannot be created: Operation not",
        ),
        ("ro", "", 72, "is missing and cannot be created: Read-only file system"),
        ("nodev", "", 77, "its file system (nodev) forbid it"),
    ] {
        let binary = Some(without_node(&lab, mount, bounding));
        lab.spawn_daemon(0, DaemonOptions { binary, ..DaemonOptions::default() }).expect("a start");
        let process = lab.host_mut(0).daemon_mut().unwrap().process();
        wait_for("its end", Duration::from_secs(5), || process.ended().is_some());
        let seen = process.ended().and_then(|status| status.code());
        let log = lab.log(0);
        assert!(seen == Some(code) && log.contains(words), "{mount}: {seen:?}\n{log}");
    }
}

/// A program that starts the daemon by way of `wrapper`, in a mount namespace whose `/dev/net` is empty and
/// mounted with `options`.
fn without_node(lab: &TestLab, options: &str, wrapper: &str) -> PathBuf {
    let path = lab.directory().join(format!("without-node-{options}-{}", wrapper.len()));
    let text = format!(
        "#!/bin/sh\n\
         exec unshare --mount sh -ec '\n\
         mount -t tmpfs -o mode=755,{options} tmpfs /dev/net\n\
         exec {wrapper} \"$0\" \"$@\"' {} \"$@\"\n",
        program().display()
    );
    fs::write(&path, text).expect("the script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}
