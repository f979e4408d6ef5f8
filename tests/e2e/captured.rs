//! What an attacker who controls a thread of the daemon can still do: the tables of `docs/hardening.md`,
//! tried in the threads themselves.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flannel_udp::confine::{self, AllowedAccess, Layer, Layers};
use flannel_udp::dataplane::{
    CheckMode, Config, Dataplane, Offloads, OuterTos, PeerAccounting, ThreadInit, Threads,
};
use flannel_udp::route;
use flannel_udp::sys::netns::Netns;
use flannel_udp::sys::process::{Signal, signal_pid};
use flannel_udp::sys::tun::{Offload, TunQueue};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

use crate::support::exclusive;

/// An attempt and its error; `None` if it succeeded.
type Outcome = (&'static str, Option<i32>);

const ALLOWED: Option<i32> = None;
const REFUSED: Option<i32> = Some(libc::EPERM);
/// The error of landlock.
const DENIED: Option<i32> = Some(libc::EACCES);

#[test]
fn a_captured_worker() {
    let Some(_exclusive) = exclusive() else { return };
    let outcomes = in_namespace(|| {
        let (confinement, worker) = confine::process(Layers::AUTO, &allowed());
        assert!(confinement.has(Layer::Seccomp) && confinement.has(Layer::Capabilities));
        let before = Before::open();
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let plane = Dataplane::start(
            &config(ThreadInit::new(move || {
                worker.enter()?;
                before.attempts(|outcome| tell.lock().unwrap().send(outcome).unwrap());
                Ok(())
            })),
            &peers(),
        )
        .expect("a data plane");
        plane.stop();
        told.try_iter().collect::<Vec<_>>()
    });
    let expected: Vec<Outcome> = vec![
        ("read a file", REFUSED),
        ("make a file", REFUSED),
        ("read a directory", REFUSED),
        ("open a UDP socket", REFUSED),
        ("open a TCP connection", REFUSED),
        ("open a Unix socket", REFUSED),
        ("change an option of an open socket", REFUSED),
        ("send anywhere from an open socket", ALLOWED),
        ("ask for other offloads of the TUN device", REFUSED),
        ("delete a link by an open netlink socket", REFUSED),
        ("signal a process", REFUSED),
        ("start a thread", REFUSED),
        ("start a program", REFUSED),
        ("take memory", ALLOWED),
        ("sleep", ALLOWED),
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn a_captured_control_thread() {
    let Some(_exclusive) = exclusive() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
    let trace = inside.join("trace");
    [&inside, &outside].iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = other.id();
    let outcomes = in_namespace(|| {
        let listeners = [0; 2].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        let [known, unknown] = listeners.each_ref().map(|l| l.local_addr().unwrap());
        let mut allowed = allowed();
        allowed.write.push(inside.clone());
        allowed.connect.push(known.port());
        let (confinement, _) = confine::process(Layers::AUTO, &allowed);
        if !confinement.has(Layer::Landlock) {
            eprintln!("SKIPPED a part: {confinement:?}");
            return None;
        }
        let run = |program: &str, args: &[&str]| -> io::Result<()> {
            let status = Command::new(program)
                .args(args)
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .status()?;
            if status.success() {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(status.signal().unwrap_or(1) + 1000))
            }
        };
        let rights = "test $(awk '/CapPrm|CapEff/ {print $2}' /proc/self/status | sort -u) = \
                      0000000000003000";
        Some(vec![
            ("write where it must", said(fs::write(inside.join("a"), "#!/bin/sh\n"))),
            ("write elsewhere", said(fs::write(outside.join("a"), ""))),
            ("read elsewhere", said(File::open("/etc/shadow"))),
            ("replace a program", said(fs::write("/usr/bin/flannel-udp-test", ""))),
            ("run a program of the system", said(run("/bin/sh", &["-c", "true"]))),
            ("run what it wrote", {
                use std::os::unix::fs::PermissionsExt;
                let mode = PermissionsExt::from_mode(0o755);
                fs::set_permissions(inside.join("a"), mode).unwrap();
                said(run(inside.join("a").to_str().unwrap(), &[]))
            }),
            ("give a program two capabilities", said(run("/bin/sh", &["-c", rights]))),
            ("enter a user namespace", said(run("unshare", &["--user", "true"]))),
            ("trace", said(run("strace", &["-o", trace.to_str().unwrap(), "true"]))),
            ("connect to a listed port", said(TcpStream::connect(known))),
            ("connect to another port", said(TcpStream::connect(unknown))),
            ("listen on another port", said(TcpListener::bind((Ipv4Addr::LOCALHOST, 47_117)))),
            ("open a packet socket", said(Socket::new(Domain::PACKET, Type::RAW, None))),
            ("signal another process", said(signal_pid(pid, Signal::Continue))),
            ("make a TUN device", said(TunQueue::attach("other0", false, false))),
        ])
    });
    other.kill().unwrap();
    other.wait().unwrap();
    end_processes_of(trace.to_str().unwrap());
    let Some(outcomes) = outcomes else { return };
    let expected: Vec<Outcome> = vec![
        ("write where it must", ALLOWED),
        ("write elsewhere", DENIED),
        ("read elsewhere", DENIED),
        ("replace a program", DENIED),
        ("run a program of the system", ALLOWED),
        ("run what it wrote", DENIED),
        ("give a program two capabilities", ALLOWED),
        ("enter a user namespace", KILLED),
        ("trace", KILLED),
        ("connect to a listed port", ALLOWED),
        ("connect to another port", DENIED),
        ("listen on another port", DENIED),
        ("open a packet socket", REFUSED),
        ("signal another process", REFUSED),
        ("make a TUN device", ALLOWED),
    ];
    assert_eq!(outcomes, expected);
}

/// Ends the processes that have `argument` on their command line: strace forks one to try the calls that
/// it needs, which outlives strace when seccomp kills that.
fn end_processes_of(argument: &str) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_one = command.split(|&byte| byte == 0).any(|word| word == argument.as_bytes());
        if is_one && let Ok(pid) = entry.file_name().to_string_lossy().parse() {
            let _ = signal_pid(pid, Signal::Kill);
        }
    }
}

/// How this test reports that a child was killed by SIGSYS.
const KILLED: Option<i32> = Some(1000 + libc::SIGSYS);

/// The process is killed, so the test runs in a child: this test program with the test [`die`].
#[test]
fn fatal_calls_end_the_process() {
    let Some(_exclusive) = exclusive() else { return };
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "captured::die", "--ignored"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
}

const CHILD: &str = "FLANNEL_UDP_TEST_CHILD";

#[test]
#[ignore = "dies; run by fatal_calls_end_the_process"]
fn die() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let namespace = File::open("/proc/self/ns/net").unwrap();
    let (_, worker) = confine::process(Layers::AUTO, &allowed());
    worker.enter().unwrap();
    let _ = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
}

/// Measures the time that the filters add to a system call of the packet path.
#[test]
#[ignore = "a measurement: run it alone, with --nocapture"]
fn what_a_system_call_costs() {
    let mut outcomes = vec![];
    for _ in 0..5 {
        for confined in [false, true] {
            let nanos = std::thread::spawn(move || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_nonblocking(true).unwrap();
                if confined {
                    confine::process(Layers::AUTO, &allowed()).1.enter().unwrap();
                }
                let mut buffer = [0; 64];
                let start = Instant::now();
                for _ in 0..CALLS {
                    assert!(socket.recv(&mut buffer).is_err());
                }
                start.elapsed().as_nanos() as f64 / f64::from(CALLS)
            });
            outcomes.push((confined, nanos.join().unwrap()));
        }
    }
    for confined in [false, true] {
        let mut nanos: Vec<_> =
            outcomes.iter().filter(|o| o.0 == confined).map(|outcome| outcome.1).collect();
        nanos.sort_by(f64::total_cmp);
        println!("confined: {confined}, ns a call: {nanos:.1?}");
    }
}

const CALLS: u32 = 1_000_000;

/// The descriptors that a worker holds, opened by a thread with all privileges.
struct Before {
    udp: UdpSocket,
    /// An address at which no process listens.
    target: std::net::SocketAddr,
    tun: TunQueue,
    netlink: Socket,
}

impl Before {
    fn open() -> Self {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let before = Self {
            udp: bind(),
            target: bind().local_addr().unwrap(),
            tun: TunQueue::attach("held0", false, true).expect("a TUN device").0,
            netlink: Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, None).unwrap(),
        };
        // From a thread with the capability, the same message reaches the lookup of the link.
        assert_eq!(before.delete_link().unwrap_err().raw_os_error(), Some(libc::ENODEV));
        before
    }

    fn attempts(&self, mut tell: impl FnMut(Outcome)) {
        let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
        tell(("read a file", said(File::open("/etc/hostname"))));
        tell(("make a file", said(File::create("/tmp/flannel-udp-captured"))));
        tell(("read a directory", said(fs::read_dir("/"))));
        tell(("open a UDP socket", said(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))));
        tell(("open a TCP connection", said(TcpStream::connect(local))));
        tell(("open a Unix socket", said(std::os::unix::net::UnixDatagram::unbound())));
        tell(("change an option of an open socket", said(self.udp.set_ttl(1))));
        tell(("send anywhere from an open socket", said(self.udp.send_to(b"x", self.target))));
        let offload = Offload::default();
        tell(("ask for other offloads of the TUN device", said(self.tun.set_offload(offload))));
        tell(("delete a link by an open netlink socket", said(self.delete_link())));
        tell(("signal a process", said(signal_pid(std::process::id(), Signal::Continue))));
        tell(("start a thread", said(std::thread::Builder::new().spawn(|| {}))));
        tell(("start a program", said(Command::new("/bin/true").status())));
        tell(("take memory", said(Ok(std::hint::black_box(vec![1u8; 64 << 20]).len()))));
        std::thread::sleep(Duration::from_millis(1));
        tell(("sleep", ALLOWED));
    }

    /// `RTM_DELLINK` for a link that does not exist: the kernel checks the capability first
    /// (`rtnetlink_rcv_msg` of `net/core/rtnetlink.c`).
    fn delete_link(&self) -> io::Result<()> {
        const REQUEST_ACK: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut message = [0u8; 32];
        message[0..4].copy_from_slice(&32u32.to_ne_bytes());
        message[4..6].copy_from_slice(&libc::RTM_DELLINK.to_ne_bytes());
        message[6..8].copy_from_slice(&REQUEST_ACK.to_ne_bytes());
        message[20..24].copy_from_slice(&0x7fff_0000_i32.to_ne_bytes());
        self.netlink.send(&message)?;
        let mut answer = [0u8; 256];
        let len = io::Read::read(&mut &self.netlink, &mut answer)?;
        assert!(len >= 20);
        match i32::from_ne_bytes(answer[16..20].try_into().unwrap()) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

fn said<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().map(|error| error.raw_os_error().unwrap_or(-1))
}

/// Runs `visit` on a thread of its own in a namespace; the privileges that it drops end with the thread.
fn in_namespace<T: Send>(visit: impl FnOnce() -> T + Send) -> T {
    let netns = Netns::anonymous().expect("a namespace");
    netns
        .enter(|| {
            assert!(
                Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success()
            );
            visit()
        })
        .unwrap()
}

fn allowed() -> AllowedAccess {
    AllowedAccess {
        write: vec!["/dev/null".into()],
        read: vec!["/proc".into()],
        execute: ["/usr", "/bin", "/sbin", "/lib", "/lib64"].map(Into::into).into(),
        devices: vec!["/dev/net".into()],
        ..AllowedAccess::default()
    }
}

fn peers() -> Arc<PeerAccounting> {
    let (_, routes) = route::table("10.0.0.0/16".parse().unwrap(), 24);
    Arc::new(PeerAccounting::new(routes))
}

fn config(on_thread_start: ThreadInit) -> Config {
    Config {
        tun_name: "flannel%d".into(),
        address: Ipv4Addr::new(10, 0, 7, 0),
        network: "10.0.0.0/16".parse().unwrap(),
        subnet: "10.0.7.0/24".parse().unwrap(),
        mtu: 1472.into(),
        bind: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8285),
        outer_tos: OuterTos::default(),
        workers: 1,
        threads: Threads::One,
        offloads: Offloads::AUTO,
        spin: Duration::ZERO,
        source_check: CheckMode::Off,
        destination_check: CheckMode::Off,
        tap: flannel_udp::dataplane::tap::Tap::default(),
        on_thread_start,
    }
}
