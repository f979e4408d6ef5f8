//! The live view: in a terminal of its own, and as text.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use flannel_udp::cli::Code;
use flannel_udp::lab::{self, DaemonOptions, Lab};
use flannel_udp::sys::process::{Signal, signal_pid};

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, flow, net, wait_for};

#[test]
fn it_lives_with_its_daemon_and_leaves_the_terminal_as_it_was() {
    let Some(_exclusive) = exclusive::with_programs(&["script", "stty"]) else { return };
    let mut lab = two_hosts();
    let mut top = Session::start(&lab);
    top.wait_for_words("SUBNET");
    assert!(top.screen().contains(ENTER), "on a screen of its own");
    lab.stop_daemon(0).expect("its end");
    top.wait_for_words("NO ANSWER");
    top.clear();
    lab.start_daemon(0, DaemonOptions::default()).expect("the daemon again");
    top.wait_for_words("ready");
    top.press(b"sq");
    top.finish("0");
}

#[test]
fn signals_end_it_as_a_key_does() {
    let Some(_exclusive) = exclusive::with_programs(&["script", "stty"]) else { return };
    let lab = two_hosts();
    let top = Session::start(&lab);
    top.wait_for_words("SUBNET");
    let pid = fs::read_to_string(top.directory.join("pid")).expect("its pid");
    signal_pid(pid.trim().parse().expect("a number"), Signal::Terminate).expect("a signal");
    top.finish("0");
    // Ctrl-C is a key there: the terminal is raw.
    let mut top = Session::start(&lab);
    top.wait_for_words("SUBNET");
    top.press(b"\x03");
    top.finish("0");
}

#[test]
fn once_prints_a_screen_anywhere() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = two_hosts();
    let traffic = flow::Background::start(lab.endpoint(0), lab.endpoint(1));
    let output = top(&lab, &["--once", "--interval", "500"]);
    traffic.finish();
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (here, there) = (lab.subnet(0).to_string(), lab.subnet(1).to_string());
    for expected in [&here, &there, "1 peer", "threads, busy", "drops"] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    assert!(text.contains("bit/s") && !text.contains('\x1b'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let output = top(&lab, &[]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(Code::Usage as i32), "{words}");
    assert!(words.contains("--once"), "{words}");
}

fn top(lab: &TestLab, flags: &[&str]) -> Output {
    let socket = lab.host(0).daemon().expect("a daemon").socket();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    command.args(["top", "--socket"]).arg(socket).args(flags).stdin(Stdio::null());
    command.output().expect("top")
}

/// `top` in a pseudo-terminal, by script(1).
struct Session {
    script: Child,
    keys: Option<std::process::ChildStdin>,
    directory: PathBuf,
}

impl Session {
    fn start(lab: &TestLab) -> Self {
        let directory = lab.directory().join("top");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        let socket = lab.host(0).daemon().expect("a daemon").socket().display().to_string();
        let program = env!("CARGO_BIN_EXE_flannel-udp");
        let inner = format!("echo $$ > pid; exec {program} top --interval 200 --socket {socket}");
        let session = format!(
            "stty rows 24 cols 80; stty -a > before; sh -c '{inner}'; echo $? > code; stty -a > after"
        );
        let mut script = Command::new("script")
            .args(["-q", "-f", "-c", &session, "screen"])
            .current_dir(&directory)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("script");
        let keys = script.stdin.take();
        Self { script, keys, directory }
    }

    /// Everything that was drawn.
    fn screen(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("screen")).unwrap_or_default())
            .into_owned()
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.as_mut().expect("its keys").write_all(keys).expect("keys");
    }

    fn wait_for_words(&self, words: &str) {
        wait_for(words, net::TIMEOUT, || self.screen().contains(words));
    }

    fn clear(&self) {
        fs::File::options()
            .write(true)
            .truncate(true)
            .open(self.directory.join("screen"))
            .expect("the screen");
    }

    /// Waits for its end; the terminal must be as it was.
    #[track_caller]
    fn finish(mut self, code: &str) {
        let read = |name: &str| fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        wait_for("its end", Duration::from_secs(5), || !read("after").is_empty());
        assert_eq!(read("code").trim(), code);
        assert_eq!(read("after"), read("before"));
        assert!(self.screen().contains(LEAVE), "back on the usual screen");
        self.keys = None;
        self.script.wait().expect("the end of script");
        remove(&self.directory);
    }
}

/// Without `script` the terminal is gone, and what runs in it ends by SIGHUP.
impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.script.try_wait(), Ok(None)) {
            let _ = self.script.kill();
            let _ = self.script.wait();
        }
    }
}

fn remove(directory: &Path) {
    fs::remove_dir_all(directory).expect("nothing is left");
}

/// Two hosts with a daemon and a container each, which have met.
fn two_hosts() -> TestLab {
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab.start_daemons(&DaemonOptions::default()).expect("the daemons");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    lab
}

/// To the alternate screen and back, as xterm is told.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
