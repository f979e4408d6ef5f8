//! Collecting one part of the report, within its limits.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::parts::{Part, Source};
use super::redact::Redactor;

/// A part of the report.
pub(super) struct Collected {
    pub(super) name: &'static str,
    /// The command or the file that it comes from, without secrets.
    pub(super) source: String,
    /// Its text, without secrets.
    pub(super) text: String,
    /// Why it is missing or incomplete.
    pub(super) problem: Option<String>,
}

/// Collects a part.
pub(super) async fn collect(part: Part, redactor: &Redactor) -> Collected {
    let Part { name, source, results } = part;
    let described = source.to_string();
    let (bytes, problem) = match source {
        Source::Command(words) => run(&words, results).await,
        Source::Files(paths) => {
            let read = tokio::task::spawn_blocking(move || read_files(&paths));
            match timeout(TIME_LIMIT, read).await {
                Ok(Ok(outcome)) => outcome,
                _ => (Vec::new(), Some(late())),
            }
        }
    };
    let text = redactor.clean(&String::from_utf8_lossy(&bytes));
    Collected { name, source: redactor.clean(&described), text, problem }
}

/// The output of a command, errors last; one of the exit codes `results` is no failure.
async fn run(words: &[String], results: &[i32]) -> (Vec<u8>, Option<String>) {
    let child = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return (Vec::new(), Some(format!("{} is not installed", words[0])));
        }
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(TIME_LIMIT, async {
        let (is_whole, _) = tokio::join!(read(stdout, &mut out), read(stderr, &mut err));
        // A command that writes more than the limit waits for a reader, and is killed.
        if is_whole { Some(child.wait().await) } else { None }
    });
    let problem = match ended.await {
        Err(_) => Some(late()),
        Ok(None) => Some(format!("truncated at {} MiB", SIZE_LIMIT >> 20)),
        Ok(Some(Ok(status))) if status.code().is_some_and(|code| results.contains(&code)) => None,
        Ok(Some(Ok(status))) => {
            let words = String::from_utf8_lossy(&err);
            let error =
                words.lines().find(|line| line.starts_with("error")).or(words.lines().next());
            let error = error.unwrap_or_default();
            Some(format!("{status}: {error}").trim_end_matches([':', ' ']).to_owned())
        }
        Ok(Some(Err(error))) => Some(error.to_string()),
    };
    out.append(&mut err);
    (out, problem)
}

/// Reads to the end or to the limit; returns whether the end was reached.
async fn read(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> bool {
    let Some(from) = from else { return true };
    let mut limited = from.take(SIZE_LIMIT as u64 + 1);
    // What arrived before an error counts.
    let _ = limited.read_to_end(to).await;
    let is_whole = to.len() <= SIZE_LIMIT;
    to.truncate(SIZE_LIMIT);
    is_whole
}

/// The files, each under a line with its name.
fn read_files(paths: &[String]) -> (Vec<u8>, Option<String>) {
    let (mut text, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match read_file(path) {
            Ok(bytes) => {
                text.extend_from_slice(format!("==> {path}\n").as_bytes());
                text.extend_from_slice(&bytes);
                text.push(b'\n');
            }
            // Most of them are optional.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                text.extend_from_slice(format!("==> {path}: not found\n").as_bytes());
            }
            Err(error) => problems.push(format!("{path}: {error}")),
        }
    }
    text.truncate(SIZE_LIMIT);
    (text, (!problems.is_empty()).then(|| problems.join("; ")))
}

/// An ordinary file; the arguments and variables of `/proc` one per line.
fn read_file(path: &str) -> io::Result<Vec<u8>> {
    use std::io::Read;
    // A FIFO would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SIZE_LIMIT as u64).read_to_end(&mut bytes)?;
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b'\n';
        }
    }
    Ok(bytes)
}

fn late() -> String {
    format!("did not complete within {} s", TIME_LIMIT.as_secs())
}

/// Longest time for a part: more than `doctor` takes.
const TIME_LIMIT: Duration = Duration::from_secs(25);
/// Largest part, in bytes.
const SIZE_LIMIT: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_words(line: &str) -> (String, Option<String>) {
        let words: Vec<_> = ["sh", "-c", line].map(str::to_owned).into();
        let (bytes, problem) = run(&words, &[0]).await;
        (String::from_utf8(bytes).unwrap(), problem)
    }

    #[tokio::test]
    async fn a_part_that_fails_says_why() {
        assert_eq!(run_words("echo a; echo b >&2").await, ("a\nb\n".into(), None));
        let (text, problem) = run_words("echo a; echo no >&2; exit 3").await;
        assert_eq!((&*text, problem.unwrap()), ("a\nno\n", "exit status: 3: no".into()));
        let (text, problem) = run_words("yes").await;
        assert_eq!((text.len(), &*problem.unwrap()), (SIZE_LIMIT, "truncated at 4 MiB"));
        let (_, problem) = run(&["no-such-program".to_owned()], &[0]).await;
        assert_eq!(problem.unwrap(), "no-such-program is not installed");
        let (text, problem) = read_files(&["/nonexistent".into(), "/dev/null".into()]);
        assert_eq!(text, b"==> /nonexistent: not found\n");
        assert_eq!(problem.unwrap(), "/dev/null: not a file");
    }
}
