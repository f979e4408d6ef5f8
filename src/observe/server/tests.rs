use super::*;
use crate::observe::client::{Client, ClientError};
use crate::observe::protocol::LogLevel;
use crate::observe::protocol::snapshot::{Build, Snapshot};
use std::io::{BufRead, Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::thread::JoinHandle;
use std::time::Instant;

/// A socket with a control loop behind it, until it is dropped.
struct Server {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/for/it.sock");
        let (stop, stopped) = oneshot::channel();
        let (ready, listening) = std::sync::mpsc::channel();
        let at = path.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (sender, mut requests) = mpsc::channel::<Request>(4);
                let socket = StatusSocket::listen(&at).unwrap();
                ready.send(()).unwrap();
                let answering = async {
                    while let Some(request) = requests.recv().await {
                        let _ = request.answer.send(answer(&request.command));
                    }
                };
                tokio::select! {
                    () = socket.serve(sender) => {}
                    () = answering => {}
                    _ = stopped => {}
                }
            });
        });
        listening.recv().unwrap();
        Self { path, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    fn client(&self) -> Client {
        Client::new(&self.path)
    }

    /// What is answered to raw bytes.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = StdStream::connect(&self.path).unwrap();
        // The server may close the connection before it has read all.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        std::io::BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    }
}

fn answer(command: &Command) -> Answer {
    match command {
        Command::Status => {
            Answer::Snapshot(Box::new(Snapshot { build: Build::current(), ..Snapshot::default() }))
        }
        Command::LogLevel(LogLevel { level: Some(level) }) if level == "stream" => Answer::Stream {
            first: "follows".into(),
            send: Box::new(|mut stream| {
                Box::pin(async move { stream.write_all(b"raw\n\0bytes").await.unwrap() })
            }),
        },
        _ => Answer::Error("no such level".into()),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
            assert!(!self.path.exists(), "the file of the socket still exists");
        }
    }
}

#[test]
fn a_question_is_answered_and_a_bad_one_refused() {
    let server = Server::start();
    assert_eq!(server.client().status().unwrap().build, Build::current());
    let refused =
        server.client().ask::<String>(&Command::LogLevel(LogLevel { level: Some("x".into()) }));
    assert!(matches!(refused, Err(ClientError::Refused(error)) if error == "no such level"));
    assert!(server.say(b"{}\n").contains("has no \\\"version\\\""));
    assert!(server.say(b"\xff\xfe\n").contains("not a line of JSON"));
    let mode = fs::metadata(&server.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_stream_follows_its_answer() {
    let server = Server::start();
    let command = Command::LogLevel(LogLevel { level: Some("stream".into()) });
    let (first, mut stream) = server.client().open::<String>(&command).unwrap();
    assert_eq!(first, "follows");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"raw\n\0bytes");
}

#[test]
fn clients_that_hang_or_flood_delay_no_other() {
    let server = Server::start();
    let line = server.say(&vec![b'x'; MAX_LINE + 2]);
    assert!(line.contains("at most 65536 bytes"), "{line}");
    // One kind sends half a request and never the rest, one closes at once, one never reads.
    let hang = |_| {
        let mut stream = StdStream::connect(&server.path).unwrap();
        stream.write_all(br#"{"version":1,"#).unwrap();
        stream
    };
    // A client's place is free again shortly after its answer.
    let hanging: Vec<_> = (0..MAX_CLIENTS / 2).map(hang).collect();
    drop(StdStream::connect(&server.path).unwrap());
    let began = Instant::now();
    for _ in 0..100 {
        server.client().status().unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // With all places taken, one more client gets an error at once.
    let more: Vec<_> = (MAX_CLIENTS / 2..MAX_CLIENTS).map(hang).collect();
    let line = loop {
        // A place is taken when the connection is accepted, shortly after connect.
        let line = server.say(Command::Status.line().as_bytes());
        if line.contains("error") || began.elapsed() > Duration::from_secs(3) {
            break line;
        }
    };
    assert!(line.contains("try again"), "{line}");
    drop((hanging, more));
    // After they disconnect, the places are free again.
    let free = || server.client().status().is_ok();
    while !free() {
        assert!(began.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let error = StatusSocket::listen(&server.path).unwrap_err().to_string();
    assert!(error.contains("another daemon answers") && error.contains("--socket=PATH"), "{error}");
    server.client().status().unwrap();

    // A listener that ends without removing its file, as a killed daemon does.
    let dead = server.path.with_file_name("dead.sock");
    drop(StdListener::bind(&dead).unwrap());
    assert!(dead.exists());
    drop(StatusSocket::listen(&dead).unwrap());
    assert!(!dead.exists());

    // A daemon whose file was replaced does not remove the other daemon's.
    let first = StatusSocket::listen(&dead).unwrap();
    fs::remove_file(&dead).unwrap();
    let second = StatusSocket::listen(&dead).unwrap();
    drop(first);
    assert!(dead.exists());
    drop(second);

    fs::write(&dead, "a letter").unwrap();
    let error = StatusSocket::listen(&dead).unwrap_err();
    assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
    assert_eq!(fs::read_to_string(&dead).unwrap(), "a letter");
    let error = StatusSocket::listen(&dead.join("below")).unwrap_err().to_string();
    assert!(error.contains("dead.sock/below"), "{error}");
}

#[test]
fn without_a_daemon_the_error_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = Client::new(directory.path().join("none")).status().unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }));
    assert!(error.to_string().contains("start it"), "{error}");
}
