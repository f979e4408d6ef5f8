//! Files that the program writes for others: replaced atomically where they are ordinary files, and written
//! through where the path is a link, a device or a pipe.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// Where the text for a path goes.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    /// The process's own standard output, which may be a file, a pipe or a socket.
    Stdout,
    /// The process's own standard error output.
    Stderr,
    /// Something that must not be replaced: a device, a pipe, anything in `/dev`, `/proc` and `/sys`.
    InPlace(PathBuf),
    /// An ordinary file, or one that does not exist yet.
    Replace(PathBuf),
}

/// Writes a whole file, mode 0644 regardless of the umask. A missing directory is created.
///
/// An ordinary file is replaced: a temporary file beside it (`.NAME`), then a rename, so that a reader never
/// sees a partial file. A path that is a symbolic link is written through: the link stays, and its target is
/// replaced. Nothing in `/dev` is ever replaced, nor anything else that is not an ordinary file: it is opened
/// and written to. So is a file that cannot be replaced, such as one that is mounted into a container.
///
/// # Errors
/// The directory or the file cannot be written.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    write_with_mode(path, text.as_bytes(), 0o644)
}

/// Writes a whole file that only its owner may read, mode 0600; otherwise as [`write()`].
///
/// # Errors
/// The directory or the file cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, PRIVATE)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match destination(path) {
        Destination::Stdout => flushed(io::stdout().lock(), bytes),
        Destination::Stderr => flushed(io::stderr().lock(), bytes),
        Destination::InPlace(path) => write_in_place(&path, bytes),
        Destination::Replace(path) => replace(&path, bytes, mode).or_else(|error| {
            // The first error is the one to report: it names what is unusual about the file.
            if !is_file(&path) {
                return Err(error);
            }
            if mode == PRIVATE && fs::set_permissions(&path, Permissions::from_mode(mode)).is_err()
            {
                return Err(error);
            }
            write_in_place(&path, bytes).map_err(|_| error)
        }),
    }
}

/// The file that is replaced when `path` is written, `path` itself or what it links to; `None` if it is not an
/// ordinary file.
pub fn target(path: &Path) -> Option<PathBuf> {
    match destination(path) {
        Destination::Replace(target) => Some(target),
        _ => None,
    }
}

/// Why [`write()`] would fail for this path, as far as it shows without writing; `None` if nothing shows.
pub fn unwritable(path: &Path) -> Option<String> {
    let refused = |path: &Path, access| {
        let error = rustix::fs::access(path, access).err().map(io::Error::from)?;
        Some(format!("cannot write {}: {error}", path.display()))
    };
    match destination(path) {
        Destination::Stdout | Destination::Stderr => None,
        Destination::InPlace(path) => refused(&path, Access::WRITE_OK),
        Destination::Replace(path) if path.is_dir() => {
            Some(format!("cannot write {}: it is a directory", path.display()))
        }
        Destination::Replace(path) => {
            let existing = directory(&path).ancestors().find(|part| part.exists())?;
            if existing.is_dir() {
                refused(existing, Access::WRITE_OK | Access::EXEC_OK)
            } else {
                Some(format!(
                    "cannot write {}: {} is no directory",
                    path.display(),
                    existing.display()
                ))
            }
        }
    }
}

fn destination(path: &Path) -> Destination {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match path.to_str() {
            Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => return Destination::Stdout,
            Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => return Destination::Stderr,
            _ => {}
        }
        // A descriptor's link is followed by the kernel alone: its text may name no file.
        if is_descriptor(&path) {
            break;
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = directory(&path).join(target);
    }
    if path.is_symlink() {
        // A descriptor, or links that lead in a circle, which the kernel refuses to open.
        return Destination::InPlace(path);
    }
    let directory = directory(&path).canonicalize();
    let kept =
        |directory: &Path| ["/dev", "/proc", "/sys"].iter().any(|d| directory.starts_with(d));
    let in_place = directory.is_ok_and(|directory| kept(&directory))
        || path.metadata().is_ok_and(|existing| !existing.is_file() && !existing.is_dir());
    if in_place { Destination::InPlace(path) } else { Destination::Replace(path) }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/dev/fd")
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|existing| existing.is_file())
}

fn flushed(mut output: impl Write, bytes: &[u8]) -> io::Result<()> {
    output.write_all(bytes)?;
    output.flush()
}

/// Writes into what is there. An open descriptor (`/dev/fd/3`) is appended to; an ordinary file is emptied.
fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if is_descriptor(path) {
        options.append(true);
    } else if is_file(path) {
        options.truncate(true);
    } else if path.starts_with("/dev/shm") {
        options.create(true).mode(0o644);
    }
    options.open(path)?.write_all(bytes)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name in the path"))?;
    let directory = directory(path);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = directory.join(hidden);
    // What a killed run left; and nobody else's link may take the place of the temporary file.
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The mode of a file for its owner alone.
const PRIVATE: u32 = 0o600;

/// Longest chain of symbolic links, the kernel's own limit (`MAXSYMLINKS` in `include/linux/namei.h`).
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_ordinary_file_is_replaced_atomically_with_mode_0644() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        write(&path, "one").unwrap();
        let reader = fs::File::open(&path).unwrap();
        write(&path, "two").unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "one");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_private_file_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, "one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_path_that_is_a_link_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("there")).unwrap();
        symlink("there/file", at("relative")).unwrap();
        symlink(at("relative"), at("second")).unwrap();
        symlink(at("there"), at("directory")).unwrap();
        for (text, name) in [("1", "relative"), ("2", "second"), ("3", "directory/file")] {
            write(&at(name), text).unwrap();
            assert_eq!(fs::read_to_string(at("there/file")).unwrap(), text, "{name}");
        }
        for link in ["relative", "second", "directory"] {
            assert!(at(link).is_symlink(), "{link} is no longer a link");
        }
        assert_eq!(fs::read_dir(at("there")).unwrap().count(), 1, "no leftovers");
        assert_eq!(target(&at("second")).unwrap(), at("there/file"));
        // A circle of links is an error, not a file in the place of one of them.
        symlink(at("circle"), at("circle")).unwrap();
        write(&at("circle"), "").unwrap_err();
        assert!(at("circle").is_symlink());
    }

    #[test]
    fn nothing_in_dev_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/dev/null", dir.path().join("null")).unwrap();
        symlink("/dev", dir.path().join("dev")).unwrap();
        symlink("/dev/stdout", dir.path().join("out")).unwrap();
        let of = |path: &str| destination(&dir.path().join(path));
        for (path, expected) in [
            ("/dev/stdout", Destination::Stdout),
            ("/proc/self/fd/2", Destination::Stderr),
            ("out", Destination::Stdout),
            ("null", Destination::InPlace("/dev/null".into())),
            ("dev/null", Destination::InPlace(dir.path().join("dev/null"))),
            ("/dev/fd/7", Destination::InPlace("/dev/fd/7".into())),
            ("/dev/no-such-device", Destination::InPlace("/dev/no-such-device".into())),
        ] {
            assert_eq!(of(path), expected, "{path}");
        }
        write(&dir.path().join("null"), "text").unwrap();
        write(Path::new("/dev/no-such-device"), "text").unwrap_err();
        assert!(!Path::new("/dev/no-such-device").exists());
    }

    #[test]
    fn what_is_not_a_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "text").unwrap_err();
        assert!(dir.path().is_dir());
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_bits_truncate(0o600),
            0,
        )
        .unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        write(&pipe, "text").unwrap();
        assert_eq!(reader.join().unwrap(), "text");
        assert_eq!(target(&pipe), None);
    }

    #[test]
    fn an_open_descriptor_is_appended_to() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "before ").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        write(Path::new(&format!("/dev/fd/{}", file.as_raw_fd())), "after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before after");
    }

    #[test]
    fn a_temporary_file_is_nobodys_link() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        symlink(&victim, dir.path().join(".file")).unwrap();
        write(&dir.path().join("file"), "text").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "text");
    }
}
