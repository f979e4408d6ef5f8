//! What supervisors see of a real daemon: health port, service manager's socket, exit codes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use flannel_udp::lab::{self, Lab, LabProcess};
use flannel_udp::sys::netns::Netns;
use flannel_udp::sys::process::Signal;

const PORT: u16 = 10254;

/// Two hosts with a directory as registry, without a network config yet.
fn lab() -> Option<Lab> {
    Lab::builder()
        .binary(env!("CARGO_BIN_EXE_flannel-udp"))
        .build()
        .inspect_err(|e| skipped(format!("no network namespaces here: {e}")))
        .ok()
}

fn daemon(lab: &Lab, flags: &[&str], notify: Option<&Path>) -> LabProcess {
    let host = lab.host(0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    command
        .arg(format!("--registry=file:{}", lab.store_directory().display()))
        .arg(format!("--subnet-file={}", host.directory().join("subnet.env").display()))
        .arg("--iptables-forward-rules=false")
        .arg(format!("--socket={}", host.directory().join("flannel-udp.sock").display()))
        .args(flags);
    if let Some(socket) = notify {
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "1000000");
    }
    let log = host.directory().join("daemon.log");
    LabProcess::start(host.netns(), command, "the daemon", log).unwrap()
}

/// Status code and body of a request; `None` while nobody listens.
fn get(netns: &Netns, path: &str) -> Option<(u16, String)> {
    netns
        .enter(|| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).ok()?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            let (head, body) = text.split_once("\r\n\r\n")?;
            Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
        })
        .unwrap()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within 15 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn health_and_watchdog_from_start_to_stop() {
    let Some(lab) = lab() else { return };
    std::fs::create_dir_all(lab.store_directory()).unwrap();
    let socket = lab.directory().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut said = String::new();
    let mut heard = |wanted: &str| {
        let mut buffer = [0; 4096];
        while let Ok(length) = manager.recv(&mut buffer) {
            said.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        said.matches(wanted).count()
    };
    let mut process =
        daemon(&lab, &["--iface=eth0", "--healthz-port=10254", "--workers=2"], Some(&socket));
    let netns = lab.host(0).netns();

    // Alive from the start, ready only with a config, a lease and the first full list of peers.
    let health = wait_for("a health port", || get(netns, "/healthz"));
    assert_eq!(health, (200, "flanneld is running".to_owned()));
    let body = wait_for("a reason for not being ready", || {
        let (status, body) = get(netns, "/readyz")?;
        assert_eq!(status, 503);
        // It listens before it has come to look for a config.
        (!body.contains("starting")).then_some(body)
    });
    assert!(body.contains("waiting for the network config"), "{body}");
    wait_for("a status for the manager", || {
        (heard("STATUS=waiting for the network config") > 0).then_some(())
    });
    assert_eq!(heard("READY=1"), 0);

    lab.create_store_directory(lab::CONFIG).unwrap();
    wait_for("readiness", || get(netns, "/readyz").filter(|(status, _)| *status == 200));
    assert_eq!(heard("READY=1"), 1);

    // Every thread shows itself, and the watchdog is fed at twice its rate.
    let fed = heard("WATCHDOG=1");
    std::thread::sleep(Duration::from_secs(3));
    assert!(heard("WATCHDOG=1") >= fed + 4, "fed too seldom");
    let (status, body) = get(netns, "/livez").unwrap();
    assert_eq!(status, 200, "{body}");
    assert!(body.lines().count() >= 3 && body.contains("control ok"), "{body}");
    assert!(!body.contains("LATE"), "{body}");

    process.signal(Signal::Hangup).unwrap();
    wait_for("what SIGHUP does not change", || {
        let log = std::fs::read_to_string(process.log()).unwrap();
        log.contains("changes to them take effect at a restart").then_some(())
    });
    assert_eq!(get(netns, "/readyz").map(|(status, _)| status), Some(200));

    let status = process.stop(Duration::from_secs(5)).unwrap();
    assert!(status.success(), "{status}: {}", process.last_lines());
    assert_eq!(heard("STOPPING=1"), 1);

    // The log tells the same in order.
    let log = std::fs::read_to_string(process.log()).unwrap();
    let mut from = 0;
    for event in [
        "using this interface: selected by --iface=eth0",
        "Couldn't fetch network config",
        "found the network config, backend udp",
        "Picking subnet in range 10.0.1.0 ... 10.0.20.0",
        "to current node (10.211.55.10)",
        "forwarding packets on UDP 10.211.55.10:8285",
        "wrote the subnet file",
        "ready subnet=",
        "stopping",
        "the lease is kept for the next start",
    ] {
        let found = log[from..].find(event);
        from += found.unwrap_or_else(|| panic!("no `{event}` from there on: {}", &log[from..]));
    }
}

#[test]
fn each_failure_has_its_exit_code() {
    let Some(lab) = lab() else { return };
    lab.create_store_directory(lab::CONFIG).unwrap();
    let _busy = lab
        .host(0)
        .netns()
        .enter(|| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap());
    let empty = lab.directory().join("nothing");
    let no_file = format!("-f{}", empty.display());
    let busy = format!("(pid {}) is using the port", std::process::id());
    for (flags, code, words) in [
        (&["--iface=bogus"][..], 68, "--iface=bogus: no interface of this host has this name"),
        (&["--iface=lo"], 68, "only loopback addresses"),
        (&[], 68, "no IPv4 default route"),
        (&["--iface=eth0", "--healthz-port=10254"], 69, &*busy),
        (&["--etcd-endpoints=htp://a:2379", "--registry=etcd"], 64, "unknown scheme `htp`"),
        (&["--iface-regex=("], 64, "--iface-regex=("),
        (&["--nosuch"], 64, "--nosuch"),
        (&["--kube-subnet-mgr"], 64, "Kubernetes subnet manager"),
        (&["--ip-masq", "true"], 64, "unexpected argument 'true'"),
    ] {
        let mut process = daemon(&lab, flags, None);
        let status = wait_for("an end", || process.ended());
        let log = process.last_lines();
        assert_eq!(status.code(), Some(code), "{flags:?}: {log}");
        assert!(log.contains(words), "{flags:?}: {log}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_flannel-udp")).args(["docker-opts", &no_file]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing"));
}

/// A file system whose server never answers: a FUSE mount that nobody serves.
struct HungMount(std::process::Child, std::path::PathBuf);

impl HungMount {
    fn over(path: &Path) -> Option<Self> {
        let options = "fd=3,rootmode=40000,user_id=0,group_id=0";
        let script = format!(
            "exec 3<>/dev/fuse && mount -i -t fuse -o {options} hung \"$0\" && exec sleep 1000"
        );
        let child = Command::new("bash").arg("-c").arg(script).arg(path).spawn().unwrap();
        let mut mount = Self(child, path.to_owned());
        let line = format!(" {} ", path.display());
        wait_for("a mount, or that there can be none", || {
            let mounted = std::fs::read_to_string("/proc/mounts").unwrap().contains(&line);
            (mounted || mount.0.try_wait().unwrap().is_some()).then_some(mounted)
        })
        .then_some(mount)
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.1).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_lease_directory_on_a_server_that_hangs() {
    let Some(lab) = lab() else { return };
    lab.create_store_directory(lab::CONFIG).unwrap();
    let flags = ["--iface=eth0", "--healthz-port=10254"];
    let ready = || get(lab.host(0).netns(), "/readyz").filter(|(status, _)| *status == 200);
    let stop = |mut process: LabProcess| {
        let status = process.stop(Duration::from_secs(1)).unwrap();
        assert!(status.success(), "{status}: {}", process.last_lines());
    };
    let mut process = daemon(&lab, &flags, None);
    wait_for("readiness", ready);
    // One entry on such a server is that entry's trouble.
    let entry = lab.store_directory().join("subnets/10.0.99.0-24");
    std::fs::create_dir(&entry).unwrap();
    let Some(hung) = HungMount::over(&entry) else { return skipped("no FUSE here") };
    let logs = |process: &LabProcess, words: &str| {
        let log = std::fs::read_to_string(process.log()).unwrap();
        log.contains(words).then_some(())
    };
    wait_for("its name", || logs(&process, "10.0.99.0-24: a directory, not a file"));
    stop(process);
    process = daemon(&lab, &flags, None);
    wait_for("readiness beside such an entry", ready);
    drop(hung);
    // The whole directory on such a server is an outage, while it runs and at the start.
    let hung = HungMount::over(&lab.store_directory()).unwrap();
    wait_for("the loss", || logs(&process, "no answer in time"));
    assert_eq!(get(lab.host(0).netns(), "/healthz").map(|(status, _)| status), Some(200));
    stop(process);
    // So early no handler is in place, and the signal itself ends the process.
    let mut opening = daemon(&lab, &flags, None);
    std::thread::sleep(Duration::from_millis(300));
    assert!(opening.ended().is_none());
    let status = opening.stop(Duration::from_secs(1)).unwrap();
    assert_eq!(status.signal(), Some(15), "{status}");
    drop(hung);
}

#[test]
fn a_daemon_that_stops_without_a_lease_keeps_none() {
    let Some(lab) = lab() else { return };
    // There is no network config, so there is no lease.
    let mut process = daemon(&lab, &["--iface=eth0"], None);
    wait_for("a daemon that waits for the config", || {
        let log = std::fs::read_to_string(process.log()).unwrap();
        log.contains("Couldn't fetch network config").then_some(())
    });
    assert!(process.stop(Duration::from_secs(5)).unwrap().success());
    let log = std::fs::read_to_string(process.log()).unwrap();
    assert!(log.contains("stopped\n") && !log.contains("the lease is kept"), "{log}");
}

#[test]
fn the_port_of_another_program_is_named() {
    let Some(lab) = lab() else { return };
    lab.create_store_directory(lab::CONFIG).unwrap();
    let _busy = lab
        .host(0)
        .netns()
        .enter(|| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 8285)).unwrap());
    let mut process = daemon(&lab, &["--iface=eth0"], None);
    wait_for("an end", || process.ended());
    let log = process.last_lines();
    assert!(log.contains(&format!("(pid {}) is using the port", std::process::id())), "{log}");
}

#[test]
fn an_output_path_that_is_a_link_is_written_through() {
    use std::fs::{File, OpenOptions, read_to_string, write};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(at("env"), "FLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\n").unwrap();
    write(at("out"), "before\n").unwrap();
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    // A copy of /dev/stdout: were it replaced, this machine's own would stay.
    std::os::unix::fs::symlink("/proc/self/fd/1", at("stdout")).unwrap();
    let docker_opts = |path: &Path, out: File| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
        command.arg("docker-opts").arg("-f").arg(at("env")).arg("-d").arg(path).arg("-i");
        assert!(command.stdout(out).status().unwrap().success(), "{}", path.display());
    };
    let options = "DOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\nDOCKER_OPT_MTU=\"--mtu=1472\"\n";
    let append = || OpenOptions::new().append(true).open(at("out")).unwrap();
    docker_opts(&at("stdout"), append());
    docker_opts(Path::new("/dev/stdout"), append());
    assert_eq!(read_to_string(at("out")).unwrap(), format!("before\n{options}{options}"));
    docker_opts(&at("link"), append());
    assert_eq!(read_to_string(at("real")).unwrap(), options);
    for link in [&at("link"), &at("stdout"), Path::new("/dev/stdout")] {
        assert!(link.is_symlink(), "{} is no longer a link", link.display());
    }
}

/// A loud word, or the end where nothing may be left out.
fn skipped(why: impl std::fmt::Display) {
    use std::io::Write;
    let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
    assert!(!required, "cannot run here: {why}");
    // Not eprintln: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
