//! The server of the status socket: a Unix socket that only root may connect to.
//!
//! One task per client passes the command to the control loop and waits for its answer. A client that
//! hangs, floods the socket or sends nonsense occupies one task for some seconds; it delays neither
//! the control loop nor other clients.

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

/// A listening socket. Dropping it removes its file, unless another daemon has replaced the file with
/// its own.
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

/// The status socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon listens at the path.
    #[error(
        "another daemon answers at {0}; give each its own socket with --socket=PATH, or none with --socket="
    )]
    Taken(PathBuf),
    /// The file at the path is not a socket.
    #[error("{0} is not a socket; remove it, or give another path with --socket=PATH")]
    NotASocket(PathBuf),
    /// A system call failed.
    #[error("cannot create the status socket {path}: {source}")]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl StatusSocket {
    /// Listens at `path`, whose directory is created if it is missing. The file of a daemon that no
    /// longer runs is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// See [`SocketError`]; the file at `path` is then unchanged.
    pub fn listen(path: &Path) -> Result<Self, SocketError> {
        let fail = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(fail)?;
        }
        check_unused(path)?;
        // The socket is created under a temporary name: no client can connect before the socket listens
        // and before its permissions are set.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let bound = bind(&temporary).and_then(|socket| {
            let identity = identity(&temporary)?;
            fs::rename(&temporary, path)?;
            Ok((UnixListener::from_std(socket)?, identity))
        });
        let (listener, identity) = bound.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            fail(error)
        })?;
        Ok(Self { listener, _file: SocketFile { path: path.to_owned(), identity } })
    }

    /// Answers clients until the future is dropped; their commands go to `requests`.
    pub async fn serve(self, requests: mpsc::Sender<Request>) {
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let place = Arc::clone(&clients).try_acquire_owned().ok();
                    if place.is_none() {
                        // Sent without waiting: an answer of this length always fits into the socket buffer.
                        let error = format!("{MAX_CLIENTS} other clients are connected; try again");
                        let _ = stream.try_write(&Answer::Error(error).line());
                        continue;
                    }
                    tokio::spawn(converse(stream, requests.clone(), place));
                }
                Err(error) => {
                    // An example is EMFILE: other parts of the daemon need descriptors more urgently.
                    tracing::debug!("cannot accept a client of the status socket: {error}");
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

/// Checks that no running daemon listens at `path`.
fn check_unused(path: &Path) -> Result<(), SocketError> {
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
        // The listener is gone, or the file was removed in between.
        Err((io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _)) => Ok(()),
        // A daemon listens; with WouldBlock, its backlog is full.
        Ok(()) | Err((io::ErrorKind::WouldBlock, _)) => Err(SocketError::Taken(path.to_owned())),
        Err((_, error)) => Err(fail(error)),
    }
}

/// Connects without waiting, and closes the connection.
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

/// Serves one client: reads its request and answers it.
async fn converse(
    mut stream: UnixStream,
    requests: mpsc::Sender<Request>,
    _place: Option<OwnedSemaphorePermit>,
) {
    let answer = match timeout(REQUEST_TIMEOUT, read_line(&mut stream)).await {
        // The client closed the connection without a request, as `connect` above does.
        Ok(Ok(line)) if line.is_empty() => return,
        Ok(Ok(line)) => match Command::parse(&line) {
            Ok(command) => ask(&requests, command).await,
            Err(error) => Answer::Error(error),
        },
        Ok(Err(error)) => Answer::Error(format!("the request cannot be read: {error}")),
        Err(_) => Answer::Error(format!(
            "no complete request arrived within {} s",
            REQUEST_TIMEOUT.as_secs()
        )),
    };
    let mut line = answer.line();
    // A client that does not read its answer in time is disconnected.
    let written = timeout(CLIENT_READ_TIMEOUT, stream.write_all_buf(&mut line)).await;
    if let (Answer::Stream { send, .. }, Ok(Ok(()))) = (answer, written) {
        send(stream).await;
    }
}

/// Reads up to the end of the line or of the stream.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
    if line.len() > MAX_LINE {
        return Err(io::Error::other(format!("a line may have at most {MAX_LINE} bytes")));
    }
    Ok(line)
}

/// Passes a command to the control loop and waits for its answer.
pub async fn ask(requests: &mpsc::Sender<Request>, command: Command) -> Answer {
    let (answer, answered) = oneshot::channel();
    let request = Request { command, answer };
    match timeout(CONTROL_TIMEOUT, async {
        requests.send(request).await.ok();
        answered.await
    })
    .await
    {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Answer::Error("the daemon is stopping".into()),
        Err(_) => Answer::Error(format!(
            "the control loop did not answer within {} s; see the daemon's log",
            CONTROL_TIMEOUT.as_secs()
        )),
    }
}

/// Clients at one time.
const MAX_CLIENTS: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
const CLIENT_READ_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
