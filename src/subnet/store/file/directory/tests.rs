//! A directory in which somebody else has put something.

use std::sync::mpsc;
use std::thread;

use super::*;

fn names(list: &[LeaseFile]) -> Vec<(&str, &[u8], bool)> {
    let row = |file: &'_ LeaseFile| file.record.fault.is_some();
    list.iter().map(|f| (&*f.record.name, &*f.record.value, row(f))).collect()
}

#[test]
fn an_entry_whose_server_hangs_stays_as_it_was_last_read() {
    let dir = tempfile::TempDir::new().unwrap();
    let leases = LeaseDirectory::open(dir.path()).unwrap();
    let progress = Progress::default();
    leases.create("known", b"1", None).unwrap();
    leases.list(&progress).unwrap();
    fs::write(leases.subnets().join("new"), "2").unwrap();
    thread::scope(|threads| {
        let hang = |name: &'static str| {
            let (go_on, gone_on) = mpsc::channel::<()>();
            threads.spawn(|| leases.reads.run(name, move || gone_on.recv()));
            go_on
        };
        let hung = [hang("known"), hang("new")];
        thread::sleep(Duration::from_millis(1100));
        let list = leases.list(&progress).unwrap();
        assert_eq!(names(&list), [("known", &b"1"[..], false), ("new", b"", true)]);
        drop(hung);
    });
    let list = leases.list(&progress).unwrap();
    assert_eq!(names(&list), [("known", &b"1"[..], false), ("new", b"2", false)]);
}

#[test]
fn a_lock_that_another_keeps_is_waited_for_with_an_end() {
    let dir = tempfile::TempDir::new().unwrap();
    let leases = LeaseDirectory::open(dir.path()).unwrap();
    let other = leases.lock().unwrap();
    let Err(DirectoryError::Io(error)) = leases.create("a", b"1", None) else {
        panic!("locked by another")
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(leases.list(&Progress::default()).unwrap().is_empty(), "readers need no lock");
    drop(other);
    leases.create("a", b"1", None).unwrap();
}

#[test]
fn neither_the_config_nor_the_lock_blocks() {
    let dir = tempfile::TempDir::new().unwrap();
    let leases = LeaseDirectory::open(dir.path()).unwrap();
    let make = |name: &str| {
        let path = dir.path().join(name);
        let _ = fs::remove_file(&path);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
    };
    make("config");
    assert_eq!(leases.config().unwrap_err().to_string(), "config is a FIFO, not a file");
    make(".lock");
    assert!(leases.create("a", b"1", None).is_err());
    fs::remove_file(dir.path().join(".lock")).unwrap();
    let target = dir.path().join("precious");
    std::os::unix::fs::symlink(&target, dir.path().join(".lock")).unwrap();
    assert!(leases.create("a", b"1", None).is_err());
    assert!(!target.exists(), "nothing is written through a link");
}
