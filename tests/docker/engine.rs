//! A Docker engine on a host of the lab, started as an operator would start it.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flannel_udp::lab::{LabHost, LabProcess};

/// A running dockerd. Dropping it removes its containers and stops it.
pub(crate) struct Engine {
    process: LabProcess,
    socket: String,
}

impl Engine {
    /// Makes the options with `flannel-udp docker-opts` out of the host's subnet.env and starts
    /// dockerd with them.
    pub(crate) fn start_with_subnet(host: &LabHost) -> Self {
        Self::start(host, docker_options(host))
    }

    /// Starts dockerd with these options, in the host's network namespace alone: it needs the cgroup mounts.
    pub(crate) fn start<S: AsRef<OsStr>>(
        host: &LabHost,
        options: impl IntoIterator<Item = S>,
    ) -> Self {
        let directory = host.directory();
        // The engine's own paths; a containerd of the machine's would mix up the two hosts' names.
        let run = directory.join("docker");
        let socket = format!("unix://{}", run.join("docker.sock").display());
        std::fs::create_dir(&run).unwrap();
        let namespace = host.netns_name();
        let mut command = Command::new("dockerd");
        command
            .args(["--host", &socket, "--storage-driver", "vfs"])
            .arg("--data-root")
            .arg(run.join("data"))
            .arg("--exec-root")
            .arg(run.join("exec"))
            .arg("--pidfile")
            .arg(run.join("pid"))
            .args(["--containerd-namespace", namespace])
            .args(["--containerd-plugins-namespace", &format!("{namespace}-plugins")])
            .args(options);
        let what = format!("dockerd on {}", host.name());
        let process =
            LabProcess::start(host.netns(), command, what, directory.join("dockerd.log")).unwrap();
        let mut engine = Self { process, socket };
        let ready = client(&engine.socket);
        engine
            .process
            .wait_until(Duration::from_secs(60), || {
                ready().args(["version"]).output().is_ok_and(|output| output.status.success())
            })
            .unwrap();
        engine
    }

    /// Runs the docker client and returns what it prints.
    #[track_caller]
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let output = client(&self.socket)().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "docker {args:?}: {said}{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.process.last_lines()
        );
        said
    }

    /// What a container has printed to its stderr and stdout.
    pub(crate) fn logs(&self, container: &str) -> String {
        let output = client(&self.socket)().args(["logs", container]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The address of a container on the bridge.
    pub(crate) fn address(&self, container: &str) -> Ipv4Addr {
        let format = "{{.NetworkSettings.IPAddress}}";
        self.docker(&["inspect", "-f", format, container]).trim().parse().unwrap()
    }

    /// Makes the image `busybox` out of the machine's own static busybox: nothing is downloaded.
    pub(crate) fn import_busybox(&self, scratch: &Path) {
        let archive = busybox_archive(scratch);
        self.docker(&["import", &archive.display().to_string(), "busybox"]);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let list = client(&self.socket)().args(["ps", "-aq"]).output();
        let containers = list.map(|output| output.stdout).unwrap_or_default();
        for id in String::from_utf8_lossy(&containers).split_whitespace() {
            let _ = client(&self.socket)().args(["rm", "-f", id]).output();
        }
        // Left to itself it stops its containerd and unmounts what it mounted, except for the network namespace
        // of containers that share their host's.
        let _ = self.process.stop(Duration::from_secs(20));
        let shared =
            Path::new(&self.socket["unix://".len()..]).with_file_name("exec/netns/default");
        let _ = Command::new("umount").arg(shared).output();
    }
}

fn client(socket: &str) -> impl Fn() -> Command + use<> {
    let socket = socket.to_owned();
    move || {
        let mut command = Command::new("docker");
        command.args(["--host", &socket]);
        command
    }
}

/// The value of `DOCKER_OPTS`, split as systemd splits `$DOCKER_OPTS`.
fn docker_options(host: &LabHost) -> Vec<String> {
    let file = host.directory().join("docker_opts.env");
    let output = Command::new(super::program())
        .arg("docker-opts")
        .arg("-f")
        .arg(host.daemon().unwrap().subnet_file())
        .arg("-d")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).unwrap();
    let subnet = host.daemon().unwrap().subnet().unwrap();
    let bip = format!("--bip={}/{}", subnet.gateway, subnet.prefix_len);
    assert_eq!(
        text,
        format!(
            "DOCKER_OPT_BIP=\"{bip}\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\n\
             DOCKER_OPT_MTU=\"--mtu=1472\"\nDOCKER_OPTS=\" {bip} --ip-masq=false --mtu=1472\"\n"
        )
    );
    let options = text.lines().find_map(|line| line.strip_prefix("DOCKER_OPTS=")).unwrap();
    options.trim_matches('"').split_whitespace().map(str::to_owned).collect()
}

/// A root file system with busybox under the names that the tests use.
fn busybox_archive(scratch: &Path) -> PathBuf {
    let archive = scratch.join("busybox.tar");
    if archive.exists() {
        return archive;
    }
    let root = scratch.join("busybox");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    std::fs::copy(busybox.expect("busybox-static is not installed"), root.join("bin/busybox"))
        .unwrap();
    for name in ["sh", "ip", "ping", "wget", "httpd", "sha256sum"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let status =
        Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
    assert!(status.unwrap().success());
    archive
}
