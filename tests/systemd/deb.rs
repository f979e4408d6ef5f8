//! The Debian package: how it gets onto a machine, and a later version of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::Machine;

/// Installs the package with apt.
pub(crate) fn install(machine: &Machine, package: &Path) {
    std::fs::copy(package, machine.root().join("var/cache/flannel-udp.deb")).unwrap();
    machine.run("apt-get -q install -y /var/cache/flannel-udp.deb");
    std::fs::remove_file(machine.root().join("var/cache/flannel-udp.deb")).unwrap();
}

/// The same package with a higher version.
pub(crate) fn later_version(package: &Path, scratch: &Path) -> PathBuf {
    let (tree, later) = (scratch.join("package"), scratch.join("later.deb"));
    let script = "dpkg-deb --raw-extract \"$0\" \"$1\" && sed -i 's/^Version: .*/&+later/' \"$1/DEBIAN/control\" && \
                  dpkg-deb -Zgzip -z1 --root-owner-group --build \"$1\" \"$2\"";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(package)
        .arg(tree)
        .arg(&later)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    later
}
