//! A host of the lab with an operating system: Debian, booted by systemd in systemd-nspawn(1), in the host's
//! network namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use flannel_udp::lab::{LabHost, LabProcess};

/// A machine, booted or switched off. Dropping it removes what systemd-nspawn leaves behind; its files belong
/// to the lab.
pub(crate) struct Machine {
    name: String,
    root: PathBuf,
    log: PathBuf,
    process: Option<LabProcess>,
}

impl Machine {
    /// A machine that is switched off, with its own copy of the root file system `base`.
    pub(crate) fn new(host: &LabHost, base: &Path) -> Self {
        let root = host.directory().join("root");
        let copied =
            Command::new("cp").args(["-a", "--reflink=auto"]).arg(base).arg(&root).status();
        assert!(copied.unwrap().success(), "cannot copy {} to {}", base.display(), root.display());
        fs::write(root.join("etc/hostname"), format!("{}\n", host.name())).unwrap();
        let log = host.directory().join("console.log");
        Self { name: host.netns_name().to_owned(), root, log, process: None }
    }

    /// Runs `true` in a container with the root file system `base`: an error says why this machine cannot.
    pub(crate) fn possible(base: &Path) -> Result<(), String> {
        let name = format!("fu{}-probe", std::process::id());
        let output =
            nspawn(&name).args(["--read-only", "--directory"]).arg(base).arg("true").output();
        remove_traces(|trace| trace == name);
        let output = output.map_err(|error| format!("sh: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("systemd-nspawn (Debian package systemd-container): {said}"))
        }
    }

    /// Its root directory, seen from outside.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Switches it on and waits until its systemd answers.
    pub(crate) fn boot(&mut self, host: &LabHost) {
        let mut command = nspawn(&self.name);
        command
            .args(["--boot", "--console=pipe", "--directory"])
            .arg(&self.root)
            .arg(format!("--network-namespace-path=/run/netns/{}", self.name))
            // What a host of its own would have; by default there is neither bpf(2) nor landlock.
            .args(["--capability=all", "--system-call-filter=@known"]);
        let what = format!("systemd on {}", host.name());
        let process = LabProcess::start(host.netns(), command, what, self.log.clone()).unwrap();
        self.process = Some(process);
        self.wait("systemd answers", Duration::from_secs(30), || {
            let state = self.say("systemctl is-system-running").0;
            ["starting", "running", "degraded"].contains(&state.trim())
        });
    }

    /// Switches it off in an orderly way.
    pub(crate) fn halt(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Duration::from_secs(30)).unwrap();
        }
    }

    /// Cuts its power.
    pub(crate) fn cut_power(&mut self) {
        // All that runs there ends with its PID 1; it would outlive systemd-nspawn, which ends with it.
        if let Some(leader) = self.leader() {
            let _ = Command::new("kill").args(["-KILL", &leader.to_string()]).status();
        }
        self.halt();
    }

    /// Runs `script` in a shell on the machine; returns what it prints and whether it succeeds.
    pub(crate) fn say(&self, script: &str) -> (String, bool) {
        let output = self.output(script).unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// Runs `script` in a shell on the machine, where it must succeed; returns what it prints.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> String {
        let (said, done) = self.say(script);
        assert!(done, "on {}: {script}\n{said}\n{}", self.name, self.journal());
        said
    }

    /// Polls until `script` succeeds.
    #[track_caller]
    pub(crate) fn until(&self, script: &str, limit: Duration) {
        self.wait(script, limit, || self.say(script).1);
    }

    /// Polls until `ready` returns true.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
        let end = Instant::now() + limit;
        while !ready() {
            let seconds = limit.as_secs();
            assert!(
                Instant::now() < end,
                "not within {seconds} s on {}: {what}\n{}",
                self.name,
                self.journal()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Writes a file of the machine.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The end of its journal, for messages.
    fn journal(&self) -> String {
        let script = "journalctl --no-pager -n 40; systemctl list-jobs; systemctl --failed";
        let (journal, _) = self.say(script);
        let console = fs::read_to_string(&self.log).unwrap_or_default();
        format!("{journal}\n{console}")
    }

    fn output(&self, script: &str) -> io::Result<Output> {
        let Some(leader) = self.leader() else {
            return Command::new("sh").args(["-c", "echo no machine; exit 1"]).output();
        };
        Command::new("nsenter")
            .arg(format!("--target={leader}"))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "env", "-i"])
            .args([PATH, "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "ETCDCTL_API=3"])
            .args(["sh", "-c", script])
            .output()
    }

    /// The process that is PID 1 there: systemd-nspawn's only child.
    fn leader(&self) -> Option<u32> {
        let pid = self.process.as_ref()?.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            self.cut_power();
        } else {
            self.halt();
        }
        remove_traces(|name| name == self.name);
    }
}

/// systemd-nspawn for the machine `name`.
fn nspawn(name: &str) -> Command {
    let mut command = Command::new("sh");
    // A host may set the kernel parameters of its own network.
    command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
    command.args(["-c", IN_A_CGROUP, name, "systemd-nspawn", "-q", "--register=no"]);
    if Path::new("/run/systemd/system").exists() {
        // systemd gives each container a scope, and would confine its devices to the standard ones.
        command.args(["--bind=/dev/net/tun", "--property=DeviceAllow=/dev/net/tun rwm"]);
    } else {
        command.arg("--keep-unit");
    }
    command.arg(format!("--machine={name}"));
    command
}

/// Removes what machines of tests that were killed have left: `is_ours` tells by the machine's name.
pub(crate) fn remove_traces(is_ours: impl Fn(&str) -> bool) {
    for parent in TRACES {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(&is_ours) {
                remove_empty_dirs(&entry.path());
            }
        }
    }
}

/// Removes a tree of directories. Files in cgroups are the kernel's, and go with their directories.
fn remove_empty_dirs(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_dirs(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Puts the shell into a cgroup called `$0`, unless systemd is there to make one, and runs "$@" in its place.
/// Two machines in one cgroup would find each other's services in it.
const IN_A_CGROUP: &str = r#"
if [ ! -d /run/systemd/system ]; then
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        [ -e "$hierarchy/cgroup.procs" ] || continue
        mkdir -p "$hierarchy/$0" && echo $$ >"$hierarchy/$0/cgroup.procs"
    done
fi
exec "$@""#;

/// Where systemd-nspawn and the script above make directories with a machine's name.
const TRACES: [&str; 5] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/unified",
    "/run/systemd/nspawn/propagate",
    "/run/systemd/nspawn/unix-export",
];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
