//! A real etcd for one test, on a loopback port of its own, and managers that use it.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod certificates;
pub mod cluster;
pub mod log;
pub mod proxy;

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, DeleteOptions, PutOptions};
use flannel_udp::route::{self, Cidr, RouteTable};
use flannel_udp::subnet::store::EtcdStore;
use flannel_udp::subnet::{
    AcquireError, EtcdOptions, Instance, Lease, LeaseStore, LeaseValue, Manager, ManagerOptions,
    NetworkConfig, RunError, SubnetStatus, Timing,
};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub const PREFIX: &str = "/coreos.com/network";
pub const CONFIG: &str = r#"{"Network":"10.0.0.0/16","Backend":{"Type":"udp"}}"#;

/// One member, killed when it is dropped, and its data removed.
pub struct Etcd {
    pub port: u16,
    dir: TempDir,
    child: Option<Child>,
    args: Vec<String>,
    tls: bool,
}

impl Etcd {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(args: &[&str]) -> Self {
        for _ in 0..5 {
            let mut etcd = Self::new(args);
            etcd.spawn();
            if etcd.ready().await {
                return etcd;
            }
        }
        panic!("etcd did not start; the test needs /usr/bin/etcd (Debian: etcd-server)");
    }

    /// A member that has not been started.
    pub fn new(args: &[&str]) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let is_tls = |arg: &String| arg.starts_with("--cert-file") || arg == "--auto-tls";
        let tls = args.iter().any(is_tls);
        Self { port: free_port(), dir: dir.unwrap(), child: None, args, tls }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub fn spawn(&mut self) {
        let url = self.url();
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.data())
            .args(["--name", "one", "--log-level", "error", "--logger", "zap"])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", "http://127.0.0.1:0"])
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .args(&self.args)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdout(Stdio::null())
            .stderr(Stdio::from(std::fs::File::create(self.dir.path().join("log")).unwrap()))
            .spawn()
            .expect("cannot run etcd: these tests need it (Debian: etcd-server)");
        self.child = Some(child);
    }

    /// Waits until the member answers.
    pub async fn ready(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if let Some(child) = &mut self.child
                && child.try_wait().unwrap().is_some()
            {
                let log = std::fs::read_to_string(self.dir.path().join("log"));
                eprintln!("etcd ended: {}", log.unwrap_or_default());
                return false;
            }
            if self.tls {
                if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                    return true;
                }
            } else if let Ok(mut client) = Client::connect([self.url()], None).await {
                let get = tokio::time::timeout(Duration::from_secs(1), client.get("x", None)).await;
                if matches!(&get, Ok(Ok(_)))
                    || matches!(&get, Ok(Err(e)) if e.to_string().contains("user name"))
                {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Starts again on the same port and data.
    pub async fn revive(&mut self) {
        self.spawn();
        assert!(self.ready().await, "etcd did not come back");
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    pub async fn client(&self) -> Client {
        Client::connect([self.url()], Some(ConnectOptions::new())).await.unwrap()
    }

    pub async fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.client().await.put(format!("{PREFIX}/{key}"), value, None).await.unwrap();
    }

    pub async fn put_leased(&self, key: &str, value: impl Into<Vec<u8>>, ttl: i64) -> i64 {
        let mut client = self.client().await;
        let lease = client.lease_grant(ttl, None).await.unwrap().id();
        let options = PutOptions::new().with_lease(lease);
        client.put(format!("{PREFIX}/{key}"), value, Some(options)).await.unwrap();
        lease
    }

    pub async fn delete(&self, key: &str) {
        self.client().await.delete(format!("{PREFIX}/{key}"), None).await.unwrap();
    }

    pub async fn delete_all(&self) {
        let options = DeleteOptions::new().with_prefix();
        self.client().await.delete(PREFIX, Some(options)).await.unwrap();
    }

    /// Value, revision and lease of a key.
    pub async fn get(&self, key: &str) -> Option<(String, i64, i64)> {
        let reply = self.client().await.get(format!("{PREFIX}/{key}"), None).await.unwrap();
        let kv = reply.kvs().first()?;
        Some((kv.value_str().unwrap().to_owned(), kv.mod_revision(), kv.lease()))
    }

    pub async fn leases(&self) -> usize {
        self.client().await.leases().await.unwrap().leases().len()
    }

    /// Compacts the history.
    pub async fn compact(&self) {
        let mut client = self.client().await;
        let revision = client.get("x", None).await.unwrap().header().unwrap().revision();
        client.compact(revision, None).await.unwrap();
    }

    pub fn options(&self) -> EtcdOptions {
        EtcdOptions { endpoints: vec![self.url()], ..EtcdOptions::default() }
    }

    pub fn store(&self) -> Arc<dyn LeaseStore> {
        etcd_store(self.options())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn etcd_store(options: EtcdOptions) -> Arc<dyn LeaseStore> {
    Arc::new(EtcdStore::new(options).unwrap())
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub fn config() -> NetworkConfig {
    NetworkConfig::parse(CONFIG.as_bytes()).unwrap()
}

pub fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub fn ip(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, host)
}

pub fn value(host: u8) -> String {
    String::from_utf8(LeaseValue::new(ip(host)).encode()).unwrap()
}

/// Options of a host with an instance of its own.
pub fn options(host: u8) -> ManagerOptions {
    ManagerOptions {
        instance: Instance::new(format!("host{host}"), &[&format!("machine{host}")]),
        timing: Timing {
            contest: Duration::from_millis(600),
            log_interval: Duration::from_secs(1),
            config_poll: Duration::from_millis(200),
            ..Timing::default()
        },
        ..ManagerOptions::new(ip(host))
    }
}

/// A running manager.
pub struct Running {
    pub lease: Lease,
    pub table: Arc<RouteTable>,
    pub status: watch::Receiver<SubnetStatus>,
    pub public_ip: watch::Sender<Ipv4Addr>,
    pub task: JoinHandle<Result<(), RunError>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Running {
    pub async fn start(store: Arc<dyn LeaseStore>, options: ManagerOptions) -> Self {
        Self::start_in(store, options, &config()).await
    }

    pub async fn start_in(
        store: Arc<dyn LeaseStore>,
        options: ManagerOptions,
        config: &NetworkConfig,
    ) -> Self {
        let mut running = Self::launch(store, options, config).await.unwrap();
        running.wait("the first list", |status| status.synced).await;
        running
    }

    /// Acquires a subnet, and does not wait for the first list.
    pub async fn launch(
        store: Arc<dyn LeaseStore>,
        options: ManagerOptions,
        config: &NetworkConfig,
    ) -> Result<Self, AcquireError> {
        let mut manager = Manager::new(store, options);
        let lease = manager.acquire(config).await?;
        let (writer, table) = route::table(config.network, config.subnet_len);
        let (status_tx, status) = watch::channel(SubnetStatus::new(&lease));
        let (stop, stopped) = oneshot::channel::<()>();
        let public_ip = manager.public_ip();
        let task = tokio::spawn(manager.run(writer, status_tx, async move {
            let _ = stopped.await;
        }));
        Ok(Self { lease, table, status, public_ip, task, stop: Some(stop) })
    }

    /// Waits until `state` is true of the status.
    pub async fn wait(&mut self, what: &str, state: impl FnMut(&SubnetStatus) -> bool) {
        let mut status = self.status.clone();
        match tokio::time::timeout(WAIT_TIMEOUT, status.wait_for(state)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => panic!("the manager ended while waiting for: {what}"),
            Err(_) => panic!("timed out waiting for: {what}; {:?}", self.status.borrow()),
        }
    }

    /// The host to which packets for an address are sent.
    pub fn hop(&self, address: &str) -> Option<u8> {
        self.table.lookup(address.parse().unwrap()).map(|hop| hop.ip.octets()[3])
    }

    pub async fn wait_hop(&self, address: &str, host: Option<u8>) -> Duration {
        until(&format!("{address} to lead to {host:?}"), async || self.hop(address) == host).await
    }

    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.task).await.unwrap().unwrap();
    }

    /// The result of the manager.
    pub async fn end(&mut self) -> Result<(), RunError> {
        tokio::time::timeout(WAIT_TIMEOUT, &mut self.task).await.expect("still running").unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until `is` returns true, and returns the time that took.
pub async fn until<R: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> R) -> Duration {
    let began = Instant::now();
    while began.elapsed() < WAIT_TIMEOUT {
        if is().await {
            return began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("timed out waiting for: {what}");
}

pub const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Options with a lease of two seconds that is renewed after 0.8 s.
pub fn short(mut options: ManagerOptions) -> ManagerOptions {
    options.timing.ttl = Duration::from_secs(2);
    options.timing.renew_margin = Duration::from_millis(1200);
    options
}
