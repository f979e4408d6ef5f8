//! A log that cannot be written, or that nobody reads, stops no packet and no command.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flannel_udp::lab;
use flannel_udp::lab::{DaemonOptions, Lab};
use flannel_udp::observe::client::Client;
use flannel_udp::observe::protocol::{Command, LogLevel};

use crate::support::exclusive;
use crate::support::test_lab::TestLab;

/// Puts something in the place of the log file, and returns the end of a pipe that is to stay open.
type Sink = fn(&Path) -> Option<File>;

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let Some(_exclusive) = exclusive() else { return };
    let full: Sink = |log| {
        symlink("/dev/full", log).expect("a link");
        None
    };
    let (mut lab, _) = lab_with(full);
    check(&mut lab, "a full disk");
    let (mut lab, reader) = lab_with(|log| Some(fifo(log)));
    drop(reader);
    check(&mut lab, "a pipe whose reader has ended");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let Some(_exclusive) = exclusive() else { return };
    let (mut lab, _reader) = lab_with(|log| Some(fifo(log)));
    check(&mut lab, "a pipe that nobody reads");
}

/// The daemon's stderr is a journal: entries with fields go to its socket, and nothing to stderr. While the journal
/// reads nothing, nothing waits.
#[test]
fn a_journal_gets_fields_and_stops_nothing() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    let directory = lab.host(0).directory().join("journal");
    fs::create_dir(&directory).expect("a directory");
    let journal = UnixDatagram::bind(directory.join("socket")).expect("a journal");
    journal.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    let mut options = DaemonOptions::with_flags(["--log-level=debug"]);
    options.binary = Some(under_a_journal(&lab, &directory));
    lab.start_daemon(0, options).expect("a daemon");
    lab.start_daemon(1, DaemonOptions::default()).expect("a daemon");
    let subnet = format!("\nFLANNEL_SUBNET={}\n", lab.subnet(1));
    let peer = format!("\nFLANNEL_PEER={}\n", lab.host(1).address());
    let mut buffer = vec![0; 1 << 18];
    let added = loop {
        let len = journal.recv(&mut buffer).expect("an entry about the other host's route");
        let entry = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if entry.contains("Subnet added") {
            break entry;
        }
    };
    for part in
        [&*subnet, &*peer, "\nFLANNEL_KIND=route\n", "\nPRIORITY=6\n", "MESSAGE= INFO Subnet"]
    {
        assert!(added.contains(part), "no {part:?} in\n{added}");
    }
    assert_eq!(lab.log(0), "", "the journal would have the line twice");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    check(&mut lab, "a journal that nobody reads");
}

/// A program that starts the daemon with stderr as a journal whose socket is in `directory`.
fn under_a_journal(lab: &Lab, directory: &Path) -> PathBuf {
    let script = lab.directory().join("under-a-journal");
    let text = format!(
        "#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs none /run && mkdir /run/systemd && \
         ln -s {} /run/systemd/journal && \
         JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec {} \"$@\"' sh \"$@\"\n",
        directory.display(),
        env!("CARGO_BIN_EXE_flannel-udp")
    );
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("its mode");
    script
}

/// Two hosts; the daemon of the first one logs all that it can into `sink`.
fn lab_with(sink: Sink) -> (TestLab, Option<File>) {
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    let log = lab.host(0).directory().join("daemon.log");
    let reader = sink(&log);
    let options = DaemonOptions::with_flags(["--log-level=trace,mio=trace"]);
    lab.start_daemons(&options).expect("the daemons");
    // A failing test prints the log, and none of these has an end.
    fs::remove_file(&log).expect("the name of the sink");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    (lab, reader)
}

/// A FIFO, opened for reading and writing, so that opening either end does not wait.
fn fifo(path: &Path) -> File {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a FIFO");
    OpenOptions::new().read(true).write(true).open(path).expect("its end")
}

/// Packets, commands and a clean end within a second, while far more lines are lost than a pipe and the queue hold.
fn check(lab: &mut TestLab, name: &str) {
    lab.meet(0, 1);
    let client = Client::new(lab.host(0).daemon().expect("a daemon").socket());
    for _ in 0..3000 {
        let command = Command::LogLevel(LogLevel { level: Some("trace".into()) });
        client.ask::<serde_json::Value>(&command).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let status = client.status().expect("the status");
    assert!(status.process.log_lines_lost > 1000, "{name}: {}", status.process.log_lines_lost);
    lab.meet(1, 0);
    let process = lab.host_mut(0).daemon_mut().expect("a daemon").process();
    let asked = Instant::now();
    let exit = process.stop(Duration::from_secs(5)).expect("its end");
    assert_eq!(exit.code(), Some(0), "{name}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{name}: {:?}", asked.elapsed());
}
