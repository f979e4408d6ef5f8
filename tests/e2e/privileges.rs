//! The privileges that running daemons have dropped, and that they still work.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab};

use crate::support::test_lab::TestLab;
use crate::support::{accounting, exclusive, program, wait_for};

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

#[test]
fn each_thread_keeps_what_it_needs() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = two_hosts([&["--ip-masq"], &["--ip-masq", "--harden=off"]]);
    let pid = lab.host(0).daemon().unwrap().pid();
    expect_confined(pid, NET_ADMIN);

    // Everything that a running daemon may have to do again.
    let host = lab.host(0).netns_name().to_owned();
    lab::tool::ip_in(&host, "link del flannel0").expect("no device");
    TestLab::run(lab.host(0).netns(), "iptables", &["-t", "nat", "-F"]);
    wait_for("the rules again", Duration::from_secs(10), || {
        TestLab::run(lab.host(0).netns(), "iptables-save", &["-t", "nat"]).contains("MASQUERADE")
    });
    lab.meet(0, 1);
    expect_confined(pid, NET_ADMIN);
    let stats = lab.host_mut(0).daemon_mut().unwrap().stats().expect("the statistics");
    let layers = stats["confinement"]["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 3);
    let in_force: Vec<_> = layers.iter().filter(|layer| layer["on"] == true).collect();
    assert!(in_force.len() >= 2, "{layers:?}");
    assert_eq!(lab.log(0).matches("confined: ").count(), 1, "{}", lab.log(0));

    // Off is off.
    let free = threads(lab.host(1).daemon().unwrap().pid());
    let own = &threads(std::process::id())[&std::process::id()];
    assert!(free.values().all(|thread| thread.filter == 0 && thread.effective == own.effective));
    assert!(lab.log(1).contains("not confined: "), "{}", lab.log(1));
    accounting::check_balance(&mut lab);
}

/// An unprivileged user with two capabilities from the service manager, as in
/// `packaging/systemd/flannel-udp.service.d/user.conf`.
#[test]
fn a_user_with_two_capabilities_does_it_all() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    let store = lab.create_store_directory(lab::CONFIG).expect("the directory");
    let mut options = DaemonOptions::with_flags(["--ip-masq"]);
    options.binary = Some(as_user(&lab));
    for host in 0..2 {
        own(lab.host(host).directory());
    }
    own(&store);
    own(&store.join("config"));
    lab.start_daemons(&options).expect("the daemons");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    let pid = lab.host(0).daemon().unwrap().pid();
    expect_confined(pid, NET_ADMIN);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")), "{status}");

    let rules = TestLab::run(lab.host(0).netns(), "iptables-save", &["-t", "nat"]);
    assert!(rules.contains("MASQUERADE"), "{rules}\n{}", lab.log(0));
    // A lease that is gone is taken again, by the calls of a renewal.
    let key = store.join("subnets").join(lab.subnet(0).to_string().replace('/', "-"));
    fs::remove_file(&key).expect("no lease");
    wait_for("the lease again", Duration::from_secs(10), || key.exists());
    let host = lab.host(0).netns_name().to_owned();
    lab::tool::ip_in(&host, "link del flannel0").expect("no device");
    wait_for("the device again", Duration::from_secs(3), || {
        lab::tool::ip_in(&host, "-4 -o addr show flannel0").is_ok_and(|shown| shown.contains("/32"))
    });
    lab.meet(0, 1);
    expect_confined(pid, NET_ADMIN);
    assert!(!lab.log(0).contains("ERROR"), "{}", lab.log(0));
    accounting::check_balance(&mut lab);

    assert!(lab.stop_daemon(0).expect("its end").success());
    let links = lab::tool::ip_in(&host, "-o link show").unwrap();
    assert!(!links.contains("flannel0"), "{links}");
}

/// Without the capabilities, or without access to the device node, the daemon names what is missing.
#[test]
fn a_user_without_them_is_told_what_is_missing() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    let store = lab.create_store_directory(lab::CONFIG).expect("the directory");
    own(&store);
    own(&store.join("config"));
    own(lab.host(0).directory());
    for (script, code, words) in [
        (script(&lab, 0o666, ""), 77, "CAP_NET_ADMIN is needed"),
        (script(&lab, 0o600, CAPABILITIES), 77, "may not open /dev/net/tun"),
    ] {
        let options = DaemonOptions { binary: Some(script), ..DaemonOptions::default() };
        lab.spawn_daemon(0, options).expect("the start");
        let process = lab.host_mut(0).daemon_mut().unwrap().process();
        wait_for("its end", Duration::from_secs(5), || process.ended().is_some());
        let code_seen = process.ended().and_then(|status| status.code());
        let log = lab.log(0);
        assert!(code_seen == Some(code) && log.contains(words), "{code_seen:?}\n{log}");
    }
}

/// Two hosts with a daemon and a container each, leases in a directory.
fn two_hosts(flags: [&[&str]; 2]) -> TestLab {
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    for (host, flags) in flags.into_iter().enumerate() {
        lab.start_daemon(host, DaemonOptions::with_flags(flags.iter().copied()))
            .expect("the daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    lab
}

/// Checks every thread of the daemon.
#[track_caller]
fn expect_confined(pid: u32, effective: u64) {
    let threads = threads(pid);
    let mut workers = 0;
    for (id, thread) in &threads {
        let Thread { name, .. } = thread;
        assert!(thread.no_new_privileges && thread.filter == 2, "{name}: {thread:?}");
        assert_eq!(thread.bounding & !(NET_ADMIN | NET_RAW), 0, "{name}: {thread:?}");
        if *id == pid {
            let kept = NET_ADMIN | NET_RAW;
            let sets = (thread.effective, thread.permitted, thread.inheritable, thread.ambient);
            assert_eq!(sets, (effective, kept, kept, kept), "{name}");
            continue;
        }
        let sets = [thread.effective, thread.permitted, thread.inheritable, thread.ambient];
        assert_eq!(sets, [0; 4], "{name}");
        if ["egress-", "ingress-", "worker-"].iter().any(|kind| name.starts_with(kind)) {
            workers += 1;
            assert!(thread.filters > threads[&pid].filters, "{name} has filters of its own");
        }
    }
    assert!(workers >= 1, "{threads:?}");
}

#[derive(Debug, Default)]
struct Thread {
    name: String,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
    bounding: u64,
    no_new_privileges: bool,
    /// `SECCOMP_MODE_FILTER` is 2.
    filter: u64,
    filters: u64,
}

/// The threads of a process, from `/proc/PID/task/TID/status`.
fn threads(pid: u32) -> BTreeMap<u32, Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process");
    let mut threads = BTreeMap::new();
    for task in tasks.map(|task| task.unwrap()) {
        // A helper thread may have ended.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let mut thread = Thread::default();
        for (key, value) in status.lines().filter_map(|line| line.split_once(":\t")) {
            let bits = || u64::from_str_radix(value, 16).unwrap();
            match key {
                "Name" => value.clone_into(&mut thread.name),
                "CapEff" => thread.effective = bits(),
                "CapPrm" => thread.permitted = bits(),
                "CapInh" => thread.inheritable = bits(),
                "CapAmb" => thread.ambient = bits(),
                "CapBnd" => thread.bounding = bits(),
                "NoNewPrivs" => thread.no_new_privileges = value == "1",
                "Seccomp" => thread.filter = bits(),
                "Seccomp_filters" => thread.filters = value.parse().unwrap(),
                _ => {}
            }
        }
        threads.insert(task.file_name().to_string_lossy().parse().unwrap(), thread);
    }
    threads
}

/// `nobody`, which owns no files.
const USER: u32 = 65_534;

const CAPABILITIES: &str = "--inh-caps=+net_admin,+net_raw --ambient-caps=+net_admin,+net_raw";

fn own(path: &std::path::Path) {
    std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("another owner");
}

/// A program that starts the daemon as that user, with the capabilities.
fn as_user(lab: &TestLab) -> std::path::PathBuf {
    script(lab, 0o666, CAPABILITIES)
}

/// A program that starts the daemon as [`USER`], with a device node of this mode in a mount namespace of its
/// own.
fn script(lab: &TestLab, mode: u32, capabilities: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = lab.directory().join(format!("as-user-{mode:o}-{}", capabilities.len()));
    // Another user may have no access to the directory of the build.
    let daemon = lab.directory().join("flannel-udp");
    if !daemon.exists() {
        fs::copy(program(), &daemon).expect("a copy");
    }
    let text = format!(
        "#!/bin/sh\n\
         set -e\n\
         exec unshare --mount sh -ec '\n\
         mount -t tmpfs -o mode=755 tmpfs /dev/net\n\
         mknod -m {mode:o} /dev/net/tun c 10 200\n\
         exec setpriv --reuid={USER} --regid={USER} --clear-groups {capabilities} \
         --bounding-set=-all,+net_admin,+net_raw \"$0\" \"$@\"' {} \"$@\"\n",
        daemon.display()
    );
    fs::write(&path, text).expect("the script");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode");
    path
}
