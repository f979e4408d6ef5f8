//! The sandbox: the files and ports that the confined daemon still needs, derived from its options.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::args::ListenPath;
use crate::confine::AllowedAccess;
use crate::daemon::Options;
use crate::host::firewall::Toolbox;
use crate::host::outer::RESOLV_CONF;
use crate::observe::protocol::DEFAULT_SOCKET;
use crate::output_file;
use crate::subnet::store::StoreAccess;

/// All files and ports that the daemon needs with these options. Directories that the daemon would create later
/// are created now, because landlock can only allow paths that exist.
pub(super) fn allowed(options: &Options) -> AllowedAccess {
    let mut allowed = AllowedAccess {
        write: vec!["/dev/null".into(), lock_file()],
        read: FILES
            .into_iter()
            .chain(RESOLV_CONF)
            .chain(["/proc", "/sys"])
            .map(PathBuf::from)
            .collect(),
        execute: PROGRAMS.map(PathBuf::from).into(),
        // The directory, because a device node that is created again is another file.
        devices: vec!["/dev/net".into()],
        ..AllowedAccess::default()
    };
    let tools = Toolbox::from_environment();
    allowed.execute.extend(tools.dirs().iter().filter(|dir| dir.is_absolute()).cloned());
    // The record of its origin is beside the subnet file, not beside what that links to.
    let origin = output_file::target(&options.subnet_file.path)
        .map(|_| create_dir(parent(&options.subnet_file.path)));
    let files = [Some(&options.subnet_file.path), options.stats_json.as_ref()];
    allowed.write.extend(files.into_iter().flatten().map(|file| match output_file::target(file) {
        Some(target) => create_dir(parent(&target)),
        // A device or a pipe is written to and never replaced.
        None => file.clone(),
    }));
    allowed.write.extend(origin);
    if options.healthz_port != 0 {
        allowed.listen.push(options.healthz_port);
    }
    allowed.listen.extend(options.metrics_addr.map(|address| address.port()));
    match &options.socket {
        Some(ListenPath::Disabled) => {}
        Some(ListenPath::At(path)) => allowed.write.push(create_dir(parent(path))),
        None => allowed.write.push(create_dir(parent(Path::new(DEFAULT_SOCKET)))),
    }
    store(&options.store.options().settings().access(), &mut allowed);
    allowed
}

fn store(access: &StoreAccess, allowed: &mut AllowedAccess) {
    for file in &access.read_files {
        // The directories, because a renewed certificate is another file, often behind a symbolic link.
        allowed.read.push(parent(file).to_owned());
        allowed.read.extend(resolved(file).map(|file| parent(&file).to_owned()));
    }
    allowed.write.extend(access.write_dirs.iter().map(|dir| create_dir(dir)));
    for (host, port) in &access.servers {
        allowed.connect.push(*port);
        if host.parse::<IpAddr>().is_err() {
            name_resolution(allowed);
        }
    }
}

/// What the C library needs to resolve a host name. Its files may be replaced at any time, so the whole of their
/// directory is allowed.
fn name_resolution(allowed: &mut AllowedAccess) {
    allowed.read.push("/etc".into());
    allowed
        .read
        .extend(resolved(Path::new("/etc/resolv.conf")).map(|file| parent(&file).to_owned()));
    allowed.connect.push(DNS);
}

/// The lock file of legacy iptables, which serialises its instances. iptables creates a missing lock file in a
/// directory that the daemon may not write to, so the file is created here.
fn lock_file() -> PathBuf {
    let path = std::env::var_os("XTABLES_LOCKFILE").unwrap_or_else(|| "/run/xtables.lock".into());
    // If the file cannot be created now, iptables cannot create it either.
    let _ = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    path.into()
}

/// Creates a directory. An error is ignored: whatever writes there meets and reports it again.
fn create_dir(dir: &Path) -> PathBuf {
    let _: io::Result<()> = fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
    dir.to_owned()
}

fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// The path with all symbolic links resolved; `None` if the file does not exist.
fn resolved(file: &Path) -> Option<PathBuf> {
    file.canonicalize().ok()
}

/// Files that this program, the C library and the firewall tools read.
const FILES: [&str; 11] = [
    "/etc/machine-id",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/services",
    "/etc/ethertypes",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/iproute2",
    "/dev/urandom",
    "/dev/random",
];

/// Directories of programs and libraries, in addition to `PATH`.
const PROGRAMS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"];

/// The port of name servers (RFC 1035).
const DNS: u16 = 53;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    fn allowed_of(args: &[&str]) -> AllowedAccess {
        allowed(&CommandLine::parse_from(["flannel-udp"].iter().chain(args)).options)
    }

    #[test]
    fn options_determine_paths_and_ports() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let allowed = allowed_of(&[
            &format!("--registry=file:{}", path("leases").display()),
            &format!("--subnet-file={}", path("run/subnet.env").display()),
            "--healthz-port=8471",
            "--metrics-addr=127.0.0.1:9285",
            &format!("--socket={}", path("socket/s").display()),
        ]);
        assert!(path("leases").is_dir() && path("run").is_dir());
        assert!(allowed.write.contains(&path("socket")));
        assert!(allowed.write.contains(&path("leases")) && allowed.write.contains(&path("run")));
        assert_eq!((&*allowed.listen, &*allowed.connect), (&[8471, 9285][..], &[][..]));
        assert!(!allowed.read.contains(&"/etc".into()));
    }

    #[test]
    fn a_link_allows_the_directory_of_its_target_and_a_device_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("run")).unwrap();
        std::os::unix::fs::symlink(path("real/subnet.env"), path("run/subnet.env")).unwrap();
        let allowed = allowed_of(&[
            &format!("--subnet-file={}", path("run/subnet.env").display()),
            "--stats-json=/dev/stdout",
        ]);
        assert!(allowed.write.contains(&path("real")) && allowed.write.contains(&path("run")));
        assert!(!allowed.write.contains(&"/dev".into()), "{:?}", allowed.write);
    }

    #[test]
    fn etcd_needs_certificates_ports_and_name_resolution() {
        let dir = tempfile::tempdir().unwrap();
        let subnet_file = format!("--subnet-file={}/subnet.env", dir.path().display());
        let ca = format!("--etcd-cafile={}/ca.pem", dir.path().display());
        let by_address =
            allowed_of(&[&subnet_file, &ca, "--etcd-endpoints=https://10.0.0.1:2379,[::1]:4001"]);
        assert_eq!(by_address.connect, [2379, 4001]);
        assert!(by_address.read.contains(&dir.path().into()));
        assert!(!by_address.read.contains(&"/etc".into()));
        let by_name = allowed_of(&[&subnet_file, "--etcd-endpoints=http://etcd.example:2379/"]);
        assert_eq!(by_name.connect, [2379, DNS]);
        assert!(by_name.read.contains(&"/etc".into()));
    }
}
