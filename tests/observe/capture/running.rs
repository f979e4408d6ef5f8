//! Captures that run: by the program, and by hand.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flannel_udp::sys::process::{Signal, signal};

use crate::support::net;
use crate::support::test_lab::TestLab;

/// A capture by the program itself, into a file.
pub struct Running {
    pub child: Child,
    pub file: PathBuf,
}

impl Running {
    /// Starts it and waits until it captures.
    pub fn start(lab: &TestLab, host: usize, flags: &[&str]) -> Self {
        let file = lab.directory().join("capture.pcapng");
        let _ = fs::remove_file(&file);
        let child = capture_command(lab, host, &file, flags).spawn().expect("a capture");
        let limit = Instant::now() + net::TIMEOUT;
        let mut running = Self { child, file };
        while !running.file.metadata().is_ok_and(|file| file.len() > 0) {
            if running.child.try_wait().expect("a child").is_some() || Instant::now() > limit {
                panic!("it does not begin: {:?}", running.wait().1);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    /// Ends it as Ctrl-C does, and returns the file.
    #[track_caller]
    pub fn stop(self) -> PathBuf {
        signal(&self.child, Signal::Terminate).expect("a signal");
        let (file, output) = self.wait();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        file
    }

    pub fn wait(self) -> (PathBuf, Output) {
        (self.file, self.child.wait_with_output().expect("its end"))
    }
}

/// A capture into a file, or into its standard output if that is `-`.
pub fn capture_command(lab: &TestLab, host: usize, file: &Path, flags: &[&str]) -> Command {
    let mut command = text_command(lab, host, flags);
    command.arg("-w").arg(file);
    command
}

/// A capture that prints lines.
pub fn text_command(lab: &TestLab, host: usize, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    let socket = lab.host(host).daemon().expect("a daemon").socket();
    command.arg("capture").arg("--socket").arg(socket).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits until a capture says that it has begun.
pub fn begun(capture: &mut Child) {
    let stderr = capture.stderr.as_mut().expect("a pipe");
    let mut line = String::new();
    // A buffer of one byte: what follows stays in the pipe.
    BufReader::with_capacity(1, stderr).read_line(&mut line).expect("a line");
    assert!(line.starts_with("capturing at"), "{line}");
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Asks the first host's daemon by hand; returns the stream and the answer's line.
pub fn ask(lab: &TestLab, request: &str) -> (BufReader<UnixStream>, String) {
    let socket = lab.host(0).daemon().expect("a daemon").socket();
    let mut stream = UnixStream::connect(socket).expect("the socket");
    writeln!(stream, "{request}").expect("a question");
    let mut stream = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer");
    (stream, line)
}
