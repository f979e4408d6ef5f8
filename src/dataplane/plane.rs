//! The data plane as a whole: start, watch, stop.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::agreement::{Agreement, FeatureState};
use super::checks::{Checks, Desk, Early, Mismatch, Rules, Why};
use super::config::{Config, Entrance, Threads};
use super::counters::{Stats, ThreadCounters};
use super::device;
use super::egress::{COMPANY_LASTS, Egress};
use super::ingress::Ingress;
use super::peers::{OtherTraffic, PeerTraffic, Peers};
use super::polling::{BULK_LASTS, Bell, Idle, Lately};
use super::tap::Place;
use super::worker::{Aide, Baton, Lead, Seat};
use crate::sys::tun::TunQueue;
use crate::sys::{steering, udp};

/// Something that control must act on.
#[derive(Debug)]
pub enum Event {
    /// The TUN device was deleted: a new data plane is needed.
    TunLost,
    /// A thread cannot go on.
    Failed(io::Error),
}

/// Why a data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `/dev/net/tun` cannot be opened.
    #[error(
        "cannot open /dev/net/tun: {0}: the tun module is not loaded or the device node is missing \
         (modprobe tun; mknod /dev/net/tun c 10 200)"
    )]
    NoTunDevice(io::Error),
    /// The process may not open `/dev/net/tun`.
    #[error(
        "this user may not open /dev/net/tun: {0}: let everybody (chmod 0666 /dev/net/tun is safe: \
         devices need CAP_NET_ADMIN) or this user"
    )]
    NoTunAccess(io::Error),
    /// The process may not make a TUN device.
    #[error(
        "cannot make the TUN device {name}: {error}: CAP_NET_ADMIN is needed (run as root, or with \
         AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW in the unit)"
    )]
    NoTunPermission {
        /// Name asked for.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The TUN device cannot be made.
    #[error("cannot make the TUN device {name}: {error}")]
    Tun {
        /// Name asked for.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The TUN device takes no address or MTU.
    #[error("cannot give the TUN device {name} its address and MTU: {error}")]
    Configure {
        /// The device.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The UDP port is not to be had.
    #[error("cannot listen on UDP {address}: {error}")]
    Bind {
        /// Address and port asked for.
        address: SocketAddrV4,
        /// What the kernel said.
        error: io::Error,
    },
    /// A thread or its poller cannot be made.
    #[error("cannot start a worker: {0}")]
    Thread(#[from] io::Error),
    /// A thread that is up cannot do what it has to do before its first packet.
    #[error("{thread} does not begin to carry packets: {error}")]
    Entrance {
        /// Its name.
        thread: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl StartError {
    pub(super) fn tun(name: &str, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Self::NoTunDevice(error),
            // `TUNSETIFF` says EPERM.
            Some(libc::EACCES) => Self::NoTunAccess(error),
            Some(libc::EPERM) => Self::NoTunPermission { name: name.to_owned(), error },
            _ => Self::Tun { name: name.to_owned(), error },
        }
    }
}

/// Running workers. Dropping it stops them; the TUN device goes with the last of them.
pub struct Dataplane {
    name: String,
    agreement: Arc<Agreement>,
    sockets: Vec<Arc<UdpSocket>>,
    peers: Arc<Peers>,
    desk: Desk,
    company: Arc<Lately>,
    threads: Vec<Thread>,
    stop: Arc<AtomicBool>,
    events: mpsc::UnboundedReceiver<Event>,
    entrance: Entrance,
}

struct Thread {
    name: String,
    counters: Arc<ThreadCounters>,
    bell: Bell,
    handle: Option<JoinHandle<()>>,
}

/// Where threads tell what happened.
#[derive(Clone)]
pub(super) struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    pub(super) fn send(&self, event: Event) {
        // Nobody listens once the data plane is being dropped.
        let _ = self.0.send(event);
    }
}

impl Dataplane {
    /// Asks the kernel for what it gives only to a process with all rights of the super-user, for the
    /// data planes that are started once these are given up.
    pub fn prepare() {
        steering::prepare();
    }

    /// Opens the device and the sockets and starts the workers, which look up in the routes of
    /// `peers` and count there as well.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left behind.
    pub fn start(config: &Config, peers: &Arc<Peers>) -> Result<Self, StartError> {
        let agreement = Arc::new(Agreement::new(config.offloads));
        // The port first: a second daemon finds it taken before it has made a device.
        let sockets = device::bind(config, &agreement)?;
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let device = device::open(config, &agreement)?;
        config.tap.set_place(Place { tun: device.name.clone(), local: config.bind });
        let (sender, events) = mpsc::unbounded_channel();
        let mut plane = Self {
            name: device.name,
            agreement: Arc::clone(&agreement),
            sockets: sockets.clone(),
            peers: Arc::clone(peers),
            desk: Desk::new(),
            company: Arc::new(Lately::new(COMPANY_LASTS)),
            threads: vec![],
            stop: Arc::default(),
            events,
            entrance: config.entrance.clone(),
        };
        for (index, (queues, socket)) in device.queues.into_iter().zip(sockets).enumerate() {
            plane.start_worker(index, config, queues, socket, &sender)?;
        }
        Ok(plane)
    }

    fn start_worker(
        &mut self,
        index: usize,
        config: &Config,
        queues: Vec<Arc<TunQueue>>,
        socket: Arc<UdpSocket>,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<(), StartError> {
        let threads = config.threads;
        let alone = threads == Threads::One;
        let lead_counters = Arc::new(ThreadCounters::new(true, alone));
        let aide_counters = match alone {
            true => Arc::clone(&lead_counters),
            false => Arc::new(ThreadCounters::new(false, true)),
        };
        let bulk = Arc::new(Lately::new(BULK_LASTS));
        let seat = |counters: &Arc<ThreadCounters>| Seat {
            idle: Idle::new(config.spin, Arc::clone(&bulk)),
            counters: Arc::clone(counters),
            stop: Arc::clone(&self.stop),
        };
        let (lead_seat, aide_seat) = (seat(&lead_counters), seat(&aide_counters));
        let egress = Egress::new(
            config,
            queues.clone(),
            Arc::clone(&socket),
            Arc::clone(self.peers.routes()),
            Arc::clone(&self.agreement),
            Arc::clone(&lead_counters),
            Arc::clone(&self.company),
        );
        let ingress = Ingress::new(
            config,
            Arc::clone(&queues[0]),
            Arc::clone(&socket),
            Arc::clone(self.peers.routes()),
            Arc::clone(&self.agreement),
            Arc::clone(&aide_counters),
            Checks::new(Rules::from(config), self.peers.routes(), &self.desk),
        );
        let baton = Arc::new(Baton::new(ingress, threads)?);
        let [lead_bell, aide_bell] = baton.bells().map(Bell::clone);
        let aide = Aide {
            socket: Arc::clone(&socket),
            baton: Arc::clone(&baton),
            threads,
            seat: aide_seat,
        };
        let lead = Lead { egress, queues, socket, baton, threads, seat: lead_seat };
        let name = format!("{}-{index}", if alone { "worker" } else { "egress" });
        self.spawn(name, lead_bell, lead_counters, events, || lead.run())?;
        if !alone {
            let name = format!("ingress-{index}");
            self.spawn(name, aide_bell, aide_counters, events, || aide.run())?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: String,
        bell: Bell,
        counters: Arc<ThreadCounters>,
        events: &mpsc::UnboundedSender<Event>,
        run: impl FnOnce() -> Result<(), Event> + Send + 'static,
    ) -> Result<(), StartError> {
        let events = Events(events.clone());
        let entrance = self.entrance.clone();
        let (tell, told) = sync_channel(1);
        let run = move || {
            let outcome = entrance.pass();
            let passed = outcome.is_ok();
            // Whoever starts this thread waits for it.
            let _ = tell.send(outcome);
            if !passed {
                return;
            }
            // The thread's own state is thrown away with it; what it shares is counters and flags.
            let outcome = panic::catch_unwind(AssertUnwindSafe(run))
                .unwrap_or_else(|_| Err(Event::Failed(io::Error::other("a worker panicked"))));
            if let Err(event) = outcome {
                events.send(event);
            }
        };
        let handle = Some(std::thread::Builder::new().name(name.clone()).spawn(run)?);
        self.peers.join(Arc::clone(&counters));
        self.threads.push(Thread { name: name.clone(), counters, bell, handle });
        let passed = told.recv().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        passed.map_err(|error| StartError::Entrance { thread: name, error })
    }

    /// The name of the TUN device.
    pub fn tun_name(&self) -> &str {
        &self.name
    }

    /// How every feature of the kernel stands.
    pub fn features(&self) -> Vec<FeatureState> {
        self.agreement.states()
    }

    /// The sum of all counters.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::sum(self.threads.iter().map(|thread| &*thread.counters));
        stats.socket_overflows = self
            .sockets
            .iter()
            .map(|socket| u64::from(udp::dropped(socket).unwrap_or_default()))
            .sum();
        stats
    }

    /// Traffic by peer, of this data plane and those before it.
    pub fn peers(&self) -> Vec<PeerTraffic> {
        self.peers.traffic()
    }

    /// What was carried and belongs to no peer of [`Self::peers`].
    pub fn other_traffic(&self) -> OtherTraffic {
        self.peers.others()
    }

    /// Says whether the route table may lack leases because it is not in step with the registry; so
    /// it is taken to be at first. Meanwhile the source check bears with addresses of the overlay
    /// that are in nobody's lease.
    pub fn set_blind(&self, blind: bool) {
        self.desk.set_blind(blind);
    }

    /// How a sender stands now whose packet has a source of the overlay in nobody's lease.
    pub fn standing(&self, sender: Ipv4Addr) -> Result<Early, Why> {
        self.desk.standing(sender)
    }

    /// Packets that failed a check since the last call, as far as workers told of them.
    pub fn take_mismatches(&self) -> Vec<Mismatch> {
        self.desk.read()
    }

    /// Counters of each thread, by name.
    pub fn threads(&self) -> impl Iterator<Item = (&str, &ThreadCounters)> {
        self.threads.iter().map(|thread| (thread.name.as_str(), &*thread.counters))
    }

    /// Wakes every thread, so that one that lives moves its count of rounds.
    pub fn nudge(&self) {
        for thread in &self.threads {
            thread.bell.ring();
        }
    }

    /// The next event; pends while there is none.
    pub async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // Every thread has ended without a word.
            None => std::future::pending().await,
        }
    }

    /// Stops the workers, waits for them and returns the final counters.
    pub fn stop(mut self) -> Stats {
        self.join();
        self.stats()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.nudge();
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A panic has been told as an event.
                let _ = handle.join();
            }
        }
        self.peers.part();
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.join();
    }
}
