//! The status socket: a Unix socket that answers questions about the daemon, to root alone.
//!
//! Its tasks hand each question to the control loop and wait for the answer there. A client that
//! hangs, floods or talks nonsense costs a task for some seconds and disturbs nobody.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::protocol::{Answer, Command, MAX_LINE, Request};

/// A socket that listens. It is removed from the file system when this value is dropped, unless
/// another daemon has put its own there.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    _file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// There is no status socket to be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers there.
    #[error(
        "another daemon answers at {0}; give each a socket of its own with --socket=PATH, or none \
         with --socket="
    )]
    Taken(PathBuf),
    /// Something that is no socket is there.
    #[error("{0} is no socket; remove it, or name another place with --socket=PATH")]
    NotASocket(PathBuf),
    /// It cannot be made.
    #[error("cannot make the status socket {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StatusSocket {
    /// Listens at `path`, whose directory is made if it is missing. The file that a dead daemon left
    /// is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// See [`SocketError`]. Nothing is changed then.
    pub fn listen(path: &Path) -> Result<Self, SocketError> {
        let fail = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(fail)?;
        }
        make_room(path)?;
        // Made under another name, so that nobody meets it before it listens or before it is root's
        // alone: a connection to a socket that does not listen is refused.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let made = bind(&temporary).and_then(|socket| {
            let identity = identity(&temporary)?;
            fs::rename(&temporary, path)?;
            Ok((UnixListener::from_std(socket)?, identity))
        });
        let (listener, identity) = made.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            fail(error)
        })?;
        Ok(Self { listener, _file: SocketFile { path: path.to_owned(), identity } })
    }

    /// Answers until it is dropped; the questions go to `requests`.
    pub async fn serve(self, requests: mpsc::Sender<Request>) {
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let place = Arc::clone(&clients).try_acquire_owned().ok();
                    if place.is_none() {
                        // Said without waiting: an answer of this length always fits.
                        let error = format!("{MAX_CLIENTS} others are being answered; try again");
                        let _ = stream.try_write(&Answer::Error(error).line());
                        continue;
                    }
                    tokio::spawn(converse(stream, requests.clone(), place));
                }
                Err(error) => {
                    // No descriptor left, for instance: others need them more urgently.
                    tracing::debug!("the status socket does not accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes sure that nothing of a living daemon's is at `path`.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let fail = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match connect(path).map_err(|error| (error.kind(), error)) {
        // Nobody listens any more, or it was removed a moment ago.
        Err((io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _)) => Ok(()),
        // Somebody listens, and too many others wait to be accepted.
        Ok(()) | Err((io::ErrorKind::WouldBlock, _)) => Err(SocketError::Taken(path.to_owned())),
        Err((_, error)) => Err(fail(error)),
    }
}

/// Whether somebody listens, without waiting.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn bind(path: &Path) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One client: its line, its answer.
async fn converse(
    mut stream: UnixStream,
    requests: mpsc::Sender<Request>,
    _place: Option<OwnedSemaphorePermit>,
) {
    let answer = match timeout(LINE_WITHIN, read_line(&mut stream)).await {
        // Gone without a word, as one who only looks whether somebody listens.
        Ok(Ok(line)) if line.is_empty() => return,
        Ok(Ok(line)) => match Command::parse(&line) {
            Ok(command) => ask(&requests, command).await,
            Err(error) => Answer::Error(error),
        },
        Ok(Err(error)) => Answer::Error(format!("the request cannot be read: {error}")),
        Err(_) => Answer::Error(format!("no whole line came within {} s", LINE_WITHIN.as_secs())),
    };
    let mut line = answer.line();
    // Whoever does not read its answer does without.
    let written = timeout(ANSWER_READ_WITHIN, stream.write_all_buf(&mut line)).await;
    if let (Answer::Stream { carry, .. }, Ok(Ok(()))) = (answer, written) {
        carry(stream).await;
    }
}

/// Up to the end of the line or of the stream.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
    if line.len() > MAX_LINE {
        return Err(io::Error::other(format!("a line has at most {MAX_LINE} bytes")));
    }
    Ok(line)
}

/// Asks the control loop.
pub async fn ask(requests: &mpsc::Sender<Request>, command: Command) -> Answer {
    let (answer, answered) = oneshot::channel();
    let request = Request { command, answer };
    match timeout(ANSWER_WITHIN, async {
        requests.send(request).await.ok();
        answered.await
    })
    .await
    {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Answer::Error("the daemon is stopping".into()),
        Err(_) => Answer::Error(format!(
            "the control loop did not answer within {} s; see the daemon's log",
            ANSWER_WITHIN.as_secs()
        )),
    }
}

/// Clients at one time.
const MAX_CLIENTS: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;
const LINE_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_READ_WITHIN: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
