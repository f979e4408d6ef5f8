//! Five hosts, seven subnets, short leases, and faults in random order: two running hosts never
//! hold one subnet.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use etcd_client::{Client, WatchOptions};
use flannel_udp::route::Cidr;
use flannel_udp::subnet::{AcquireError, LeaseValue, ManagerOptions, NetworkConfig, Timing};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::proxy::{Mode, Proxy};
use crate::support::*;

const HOSTS: usize = 5;
const STEPS: usize = 60;

/// `MODEL_SEED` repeats one run.
#[tokio::test]
async fn never_two_holders() {
    let seeds: Vec<u64> = match std::env::var("MODEL_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..2).map(|_| fastrand::u64(..)).collect(),
    };
    for seed in seeds {
        eprintln!("MODEL_SEED={seed}");
        Model::start(seed).await.run().await;
    }
}

/// One random event.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    Stop(usize),
    Cut(usize),
    Silence(usize),
    Heal(usize),
    /// An operator deletes a lease.
    Delete,
    /// An operator revokes an etcd lease.
    Revoke,
    Compact,
    RestartServer,
    Wait,
}

struct Host {
    proxy: Proxy,
    running: Option<Running>,
    starting: Option<JoinHandle<Result<Running, AcquireError>>>,
    previous: Option<Cidr>,
}

struct Model {
    etcd: Etcd,
    config: NetworkConfig,
    hosts: Vec<Host>,
    rng: fastrand::Rng,
    history: History,
    /// Subnets whose lease an operator removed: the holder does not learn of it at once.
    meddled: HashSet<Cidr>,
}

impl Model {
    async fn start(seed: u64) -> Self {
        let etcd = Etcd::start().await;
        let config = NetworkConfig::parse(br#"{"Network":"10.0.0.0/24","SubnetLen":27}"#).unwrap();
        let mut hosts = Vec::new();
        for _ in 0..HOSTS {
            let proxy = Proxy::to(etcd.port).await;
            hosts.push(Host { proxy, running: None, starting: None, previous: None });
        }
        let history = History::watch(etcd.url());
        let rng = fastrand::Rng::with_seed(seed);
        Self { etcd, config, hosts, rng, history, meddled: HashSet::new() }
    }

    async fn run(mut self) {
        for host in 0..HOSTS {
            self.step(Step::Start(host)).await;
        }
        for _ in 0..STEPS {
            let step = self.draw();
            self.step(step).await;
            self.collect().await;
            for _ in 0..self.rng.u32(1..6) {
                sleep(Duration::from_millis(self.rng.u64(5..60))).await;
                self.check(step);
            }
        }
        self.settle().await;
    }

    fn draw(&mut self) -> Step {
        let host = self.rng.usize(0..HOSTS);
        match self.rng.u32(0..20) {
            0..=3 => Step::Start(host),
            4..=5 => Step::Stop(host),
            6..=7 => Step::Cut(host),
            8 => Step::Silence(host),
            9..=12 => Step::Heal(host),
            13 => Step::Delete,
            14 => Step::Revoke,
            15 => Step::Compact,
            16 => Step::RestartServer,
            _ => Step::Wait,
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Start(host) => self.launch(host),
            Step::Stop(number) => {
                let host = &mut self.hosts[number];
                if let Some(starting) = host.starting.take() {
                    starting.abort();
                }
                if let Some(running) = host.running.take() {
                    host.previous = Some(running.status.borrow().lease);
                    running.stop().await;
                }
            }
            Step::Cut(host) => self.hosts[host].proxy.set(Mode::Cut),
            Step::Silence(host) => self.hosts[host].proxy.set(Mode::Silent),
            Step::Heal(host) => self.hosts[host].proxy.set(Mode::Pass),
            Step::Delete | Step::Revoke => {
                let leases = self.leases().await;
                let Some((subnet, (_, lease))) = self.rng.choice(leases) else {
                    return;
                };
                self.meddled.insert(subnet);
                if matches!(step, Step::Delete) {
                    self.etcd.delete(&format!("subnets/{}", name(subnet))).await;
                } else {
                    let _ = self.etcd.client().await.lease_revoke(lease).await;
                }
            }
            Step::Compact => {
                let mut client = self.etcd.client().await;
                let seen = self.history.seen();
                let _ = client.compact(seen, None).await;
            }
            Step::RestartServer => {
                self.etcd.kill();
                sleep(Duration::from_millis(self.rng.u64(0..400))).await;
                self.etcd.revive().await;
            }
            Step::Wait => sleep(Duration::from_millis(self.rng.u64(0..1200))).await,
        }
    }

    fn launch(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if host.running.is_some() || host.starting.is_some() {
            return;
        }
        let mut etcd = self.etcd.options();
        etcd.endpoints = vec![host.proxy.url()];
        etcd.request_timeout = Duration::from_secs(1);
        let usual = options(number as u8 + 1);
        let options = ManagerOptions {
            previous: host.previous,
            timing: Timing {
                ttl: Duration::from_secs(3),
                renew_margin: Duration::from_millis(1500),
                ..usual.timing.clone()
            },
            ..usual
        };
        let config = self.config.clone();
        host.starting =
            Some(tokio::spawn(
                async move { Running::launch(etcd_store(etcd), options, &config).await },
            ));
    }

    /// Collects the hosts that have started.
    async fn collect(&mut self) {
        for host in &mut self.hosts {
            if host.starting.as_ref().is_some_and(JoinHandle::is_finished) {
                match host.starting.take().unwrap().await.unwrap() {
                    Ok(running) => host.running = Some(running),
                    // Leases of stopped hosts have not expired.
                    Err(AcquireError::OutOfSubnets) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            if let Some(running) = &host.running {
                assert!(!running.task.is_finished(), "a manager gave up");
            }
        }
    }

    fn check(&self, after: Step) {
        self.history.check();
        let mut holders = HashMap::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let Some(running) = &host.running else { continue };
            let status = running.status.borrow();
            let lives = status.lease_expires.is_some_and(|at| at > SystemTime::now());
            if !lives || !status.lease_held || self.meddled.contains(&status.lease) {
                continue;
            }
            if let Some(other) = holders.insert(status.lease, number) {
                panic!("{} has two holders, {other} and {number}, after {after:?}", status.lease);
            }
        }
    }

    async fn leases(&self) -> Vec<(Cidr, (u8, i64))> {
        let prefix = format!("{PREFIX}/subnets/");
        let options = etcd_client::GetOptions::new().with_prefix();
        let reply = self.etcd.client().await.get(prefix.clone(), Some(options)).await.unwrap();
        let lease = |kv: &etcd_client::KeyValue| {
            let name = kv.key_str().unwrap().strip_prefix(&prefix).unwrap().replace('-', "/");
            let value = LeaseValue::decode(kv.value()).unwrap();
            (cidr(&name), (value.public_ip.octets()[3], kv.lease()))
        };
        reply.kvs().iter().map(lease).collect()
    }

    /// Once all faults are over, every host has a subnet and a route to every other host.
    async fn settle(&mut self) {
        for host in &self.hosts {
            host.proxy.set(Mode::Pass);
        }
        let deadline = tokio::time::Instant::now() + WAIT_TIMEOUT;
        loop {
            for host in 0..HOSTS {
                self.launch(host);
            }
            sleep(Duration::from_millis(100)).await;
            self.collect().await;
            self.history.check();
            let problem = self.problem().await;
            match problem {
                None => return,
                Some(problem) => {
                    assert!(tokio::time::Instant::now() < deadline, "did not converge: {problem}");
                }
            }
        }
    }

    async fn problem(&self) -> Option<String> {
        let leases: HashMap<Cidr, (u8, i64)> = self.leases().await.into_iter().collect();
        let mut subnets = HashMap::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let Some(running) = &host.running else { return Some(format!("{number} is away")) };
            let status = running.status.borrow();
            let holder = leases.get(&status.lease).map(|lease| lease.0);
            if holder != Some(number as u8 + 1) {
                return Some(format!("{number} has {}, held by {holder:?}", status.lease));
            }
            subnets.insert(number, status.lease);
        }
        for (number, host) in self.hosts.iter().enumerate() {
            for (peer, subnet) in subnets.iter().filter(|(peer, _)| **peer != number) {
                let hop = host.running.as_ref()?.hop(&subnet.network().to_string());
                if hop != Some(*peer as u8 + 1) {
                    return Some(format!("{number} sends {peer}'s {subnet} to {hop:?}"));
                }
            }
        }
        None
    }
}

fn name(subnet: Cidr) -> String {
    subnet.to_string().replace('/', "-")
}

/// Every write in etcd's history: none overwrites another host's entry.
struct History {
    state: Arc<Mutex<(i64, Vec<String>)>>,
    task: JoinHandle<()>,
}

impl History {
    fn watch(url: String) -> Self {
        let state: Arc<Mutex<(i64, Vec<String>)>> = Arc::new(Mutex::new((1, Vec::new())));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let _ = watch(&url, &shared).await;
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self { state, task }
    }

    fn seen(&self) -> i64 {
        self.state.lock().unwrap().0
    }

    fn check(&self) {
        let thefts = &self.state.lock().unwrap().1;
        assert!(thefts.is_empty(), "{thefts:#?}");
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(url: &str, state: &Mutex<(i64, Vec<String>)>) -> Result<(), etcd_client::Error> {
    let mut client = Client::connect([url], None).await?;
    let from = state.lock().unwrap().0 + 1;
    let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(from);
    let mut stream = client.watch(format!("{PREFIX}/subnets/"), Some(options)).await?;
    while let Some(reply) = stream.message().await? {
        assert_eq!(reply.compact_revision(), 0, "the history was compacted away");
        let mut state = state.lock().unwrap();
        for event in reply.events() {
            let Some(kv) = event.kv() else { continue };
            state.0 = state.0.max(kv.mod_revision());
            let before = event.prev_kv().map(|kv| LeaseValue::decode(kv.value()).unwrap());
            let after = LeaseValue::decode(kv.value()).ok();
            if let (Some(before), Some(after)) = (before, after)
                && before != after
            {
                let key = kv.key_str().unwrap_or_default();
                state.1.push(format!("{key}: {after:?} over {before:?}"));
            }
        }
    }
    Ok(())
}
