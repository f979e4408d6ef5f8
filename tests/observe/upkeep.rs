//! Rows of `docs/operations.md` about what the daemon keeps in order on its host: subnet file and firewall rules.

use std::process::Command;
use std::time::Duration;

use crate::doctor_lab::{HERE, PEER, examine};
use crate::operations::{row, start, status, status_row};
use crate::support::test_lab::TestLab;
use crate::support::wait_for;

/// What the daemon promises on its host is taken away for a while.
pub fn promised(lab: &mut TestLab) {
    let file = lab.host(HERE).directory().join("subnet.env");
    let text = std::fs::read_to_string(&file).expect("a subnet file");
    let again = || std::fs::read_to_string(&file).is_ok_and(|now| now == text);
    std::fs::remove_file(&file).expect("no file");
    wait_for("the subnet file again", Duration::from_secs(8), again);
    row("journalctl -u flannel-udp", "was missing; writing it again", &lab.log(HERE));
    std::fs::write(&file, "FLANNEL_SUBNET=10.9.9.1/24\n").expect("another text");
    wait_for("the subnet file again", Duration::from_secs(8), again);
    row("journalctl -u flannel-udp", "had been changed; writing it again", &lab.log(HERE));

    std::fs::remove_file(&file).expect("no file");
    std::fs::create_dir_all(file.join("inside")).expect("a directory in its place");
    let meaning = "cannot write the subnet file";
    status_row(lab, HERE, meaning);
    let found = examine(lab, &["--peers=no"]);
    row("flannel-udp doctor", meaning, &found.text);
    std::fs::remove_dir_all(&file).expect("no directory");
    wait_for("the subnet file again", Duration::from_secs(8), again);
    wait_for("no warning", Duration::from_secs(8), || !status(lab, HERE).contains(meaning));

    let netns = lab.host(HERE).netns();
    let rules = TestLab::run(netns, "iptables", &["-t", "mangle", "-S", "FLANNEL-PORT"]);
    row("iptables -t mangle -S FLANNEL-PORT", "flannel-udp port", &rules);
}

/// What a starting daemon finds missing on its host, or in the hands of another program.
pub fn contested(lab: &mut TestLab) {
    let no_tool = "for f in /usr/sbin/xtables-*-multi /usr/sbin/nft; do \
                   mount --bind /dev/null $f; done; exec \"$0\" \"$@\"";
    let (_, said) = start(lab, PEER, &["unshare", "-m", "timeout", "2", "sh", "-c", no_tool], &[]);
    row("journalctl -u flannel-udp", "the firewall rules are missing", &said);

    let file = lab.host(HERE).directory().join("subnet.env").display().to_string();
    let (code, said) = start(lab, HERE, &[], &[&format!("--subnet-file={file}")]);
    assert_eq!(code, Some(69), "{said}");
    row("journalctl -u flannel-udp", "another daemon on this host writes the subnet file", &said);
    let (code, said) = start(lab, HERE, &[], &["--tun-name=flannel0"]);
    assert_eq!(code, Some(72), "{said}");
    row("journalctl -u flannel-udp", "the TUN device flannel0 is in use by another daemon", &said);
    xtables_lock(lab);
}

/// The xtables lock of another program, which legacy iptables waits for.
fn xtables_lock(lab: &mut TestLab) {
    let directory = lab.host(PEER).directory().to_owned();
    let lock = directory.join("xtables.lock");
    for suffix in ["", "-save", "-restore"] {
        let legacy = format!("/usr/sbin/iptables-legacy{suffix}");
        std::os::unix::fs::symlink(legacy, directory.join(format!("iptables{suffix}")))
            .expect("a link");
    }
    let mut holder =
        Command::new("flock").arg("-F").arg(&lock).args(["sleep", "60"]).spawn().expect("flock");
    let path = format!("PATH={}:/usr/bin:/bin", directory.display());
    let file = format!("XTABLES_LOCKFILE={}", lock.display());
    let (_, said) = start(lab, PEER, &["timeout", "4", "env", &path, &file], &[]);
    holder.kill().and_then(|()| holder.wait().map(drop)).expect("an end of flock");
    row("journalctl -u flannel-udp", "is waiting for the xtables lock", &said);
    assert!(said.contains("which sleep (pid "), "{said}");
}
