//! The data plane as a whole: start, observe, stop.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::checks::{Checks, GraceReason, Mismatch, MismatchReason, MismatchReports};
use super::config::{Config, ThreadInit, Threads};
use super::counters::by_peer::{OtherTraffic, PeerAccounting, PeerTraffic};
use super::counters::{Stats, ThreadCounters};
use super::device;
use super::device_node;
use super::egress::{Egress, INTERACTIVE_WINDOW};
use super::error::StartError;
use super::event::{self, Event, EventSender};
use super::ingress::Ingress;
use super::mtu::Mtu;
use super::offload::{ActiveOffloads, FeatureState};
use super::polling::{BULK_WINDOW, BusyPoll, RecentEvent, Waker};
use super::tap::TapInterfaces;
use super::worker::{EgressThread, IngressHandoff, IngressThread, Owner, ThreadContext};
use crate::sys::tun::TunQueue;
use crate::sys::{steering, udp};

/// Running workers. Dropping the data plane stops the workers, and the last of them removes the TUN
/// device.
pub struct Dataplane {
    name: String,
    offloads: Arc<ActiveOffloads>,
    sockets: Vec<Arc<UdpSocket>>,
    peers: Arc<PeerAccounting>,
    reports: MismatchReports,
    interactive: Arc<RecentEvent>,
    threads: Vec<Thread>,
    stop: Arc<AtomicBool>,
    events: mpsc::UnboundedReceiver<Event>,
    mtu: Mtu,
    on_thread_start: ThreadInit,
    steering_lost: Option<String>,
}

struct Thread {
    name: String,
    counters: Arc<ThreadCounters>,
    waker: Waker,
    handle: Option<JoinHandle<()>>,
}

impl Dataplane {
    /// Makes and loads what the kernel grants only to a process with all capabilities, for data planes that
    /// start after the process has dropped them.
    ///
    /// # Errors
    /// The device node cannot be opened or made. Without the rest a data plane still starts.
    pub fn prepare() -> Result<(), StartError> {
        steering::prepare();
        device_node::ensure()
    }

    /// Opens the device and the sockets and starts the workers, which use the routes of `peers` and count
    /// their traffic there. The device has its address, but is down.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left behind.
    pub fn start(config: &Config, peers: &Arc<PeerAccounting>) -> Result<Self, StartError> {
        let offloads = Arc::new(ActiveOffloads::new(config.offloads));
        // The port first: a second daemon then fails before it has created a device.
        let sockets = device::bind(config, &offloads)?;
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let device = device::open(config, &offloads)?;
        config.tap.set_interfaces(TapInterfaces { tun: device.name.clone(), local: config.bind });
        let (sender, events) = event::channel();
        let mut plane = Self {
            name: device.name,
            offloads: Arc::clone(&offloads),
            sockets: sockets.clone(),
            peers: Arc::clone(peers),
            reports: MismatchReports::new(config.source_check),
            interactive: Arc::new(RecentEvent::new(INTERACTIVE_WINDOW)),
            threads: vec![],
            stop: Arc::default(),
            events,
            mtu: config.mtu.clone(),
            on_thread_start: config.on_thread_start.clone(),
            steering_lost: device.steering_lost,
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
        events: &EventSender,
    ) -> Result<(), StartError> {
        let threads = config.threads;
        let single = threads == Threads::One;
        let egress_counters = Arc::new(ThreadCounters::new(true, single));
        let ingress_counters = if single {
            Arc::clone(&egress_counters)
        } else {
            Arc::new(ThreadCounters::new(false, true))
        };
        let bulk = Arc::new(RecentEvent::new(BULK_WINDOW));
        let context = |counters: &Arc<ThreadCounters>| ThreadContext {
            busy_poll: BusyPoll::new(config.spin, Arc::clone(&bulk)),
            counters: Arc::clone(counters),
            stop: Arc::clone(&self.stop),
        };
        let (egress_context, ingress_context) =
            (context(&egress_counters), context(&ingress_counters));
        let egress = Egress::new(
            config,
            queues.clone(),
            Arc::clone(&socket),
            Arc::clone(self.peers.routes()),
            Arc::clone(&self.offloads),
            Arc::clone(&egress_counters),
            Arc::clone(&self.interactive),
        );
        let ingress = Ingress::new(
            config,
            Arc::clone(&queues[0]),
            Arc::clone(&socket),
            Arc::clone(self.peers.routes()),
            Arc::clone(&self.offloads),
            Arc::clone(&ingress_counters),
            Checks::new(&self.reports),
        );
        let handoff = Arc::new(IngressHandoff::new(ingress, threads)?);
        let [egress_waker, ingress_waker] =
            [Owner::EgressThread, Owner::IngressThread].map(|owner| handoff.waker(owner).clone());
        let ingress_thread = IngressThread {
            socket: Arc::clone(&socket),
            handoff: Arc::clone(&handoff),
            threads,
            context: ingress_context,
        };
        let egress_thread =
            EgressThread { egress, queues, socket, handoff, threads, context: egress_context };
        let name = format!("{}-{index}", if single { "worker" } else { "egress" });
        self.spawn(name, egress_waker, egress_counters, events, || egress_thread.run())?;
        if !single {
            let name = format!("ingress-{index}");
            self.spawn(name, ingress_waker, ingress_counters, events, || ingress_thread.run())?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: String,
        waker: Waker,
        counters: Arc<ThreadCounters>,
        events: &EventSender,
        run: impl FnOnce() -> Result<(), Event> + Send + 'static,
    ) -> Result<(), StartError> {
        let events = events.clone();
        let init = self.on_thread_start.clone();
        let (outcome_sender, outcome) = sync_channel(1);
        let run = move || {
            let initialized = init.run();
            let failed = initialized.is_err();
            // The thread that spawns this one waits for the outcome.
            let _ = outcome_sender.send(initialized);
            if failed {
                return;
            }
            // A panic drops the state of this thread; the shared state is counters and flags only.
            let ended = panic::catch_unwind(AssertUnwindSafe(run))
                .unwrap_or_else(|_| Err(Event::Failed(io::Error::other("a worker panicked"))));
            if let Err(event) = ended {
                events.send(event);
            }
        };
        let handle = Some(std::thread::Builder::new().name(name.clone()).spawn(run)?);
        self.peers.add_thread(Arc::clone(&counters));
        self.threads.push(Thread { name: name.clone(), counters, waker, handle });
        let initialized =
            outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
        initialized.map_err(|error| StartError::ThreadInit { thread: name, error })
    }

    /// The name of the TUN device.
    pub fn tun_name(&self) -> &str {
        &self.name
    }

    /// The state of every kernel feature.
    pub fn features(&self) -> Vec<FeatureState> {
        self.offloads.states()
    }

    /// Why the kernel does not steer packets to the queues of the TUN device as it should, and what that
    /// costs; `None` if it does, or if there is one queue only.
    pub fn steering_lost(&self) -> Option<&str> {
        self.steering_lost.as_deref()
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

    /// Traffic by peer, including that of earlier data planes.
    pub fn peers(&self) -> Vec<PeerTraffic> {
        self.peers.traffic()
    }

    /// Traffic that belongs to no peer of [`Self::peers`].
    pub fn other_traffic(&self) -> OtherTraffic {
        self.peers.others()
    }

    /// Sets the overlay's MTU, of which the caller informs the kernel. Packets on their way are not lost.
    pub fn set_mtu(&self, mtu: u16) {
        self.mtu.set(mtu);
    }

    /// Sets whether datagrams are fragmented by the MTU of the kernel's routes, which an administrator may have
    /// set, but which ICMP errors also change; at first they are not.
    pub fn follow_route_mtu(&self, follow: bool) {
        for socket in &self.sockets {
            if let Err(error) = udp::set_path_mtu_discovery(socket, follow) {
                tracing::debug!(%error, "cannot change how datagrams are fragmented");
            }
        }
    }

    /// Sets whether the route table may lack leases because it is out of date with the lease store, which
    /// is assumed at first. Meanwhile the source check tolerates overlay addresses that are in no lease.
    pub fn set_routes_stale(&self, stale: bool) {
        self.reports.set_routes_stale(stale);
    }

    /// Whether a packet from `sender` whose inner source is an overlay address in no lease is tolerated
    /// now, and why.
    pub fn grace_of(&self, sender: Ipv4Addr) -> Result<GraceReason, MismatchReason> {
        self.reports.grace_of(sender, self.peers.routes().leads_to(sender))
    }

    /// Packets that failed a check since the last call, as far as the workers reported them.
    pub fn take_mismatches(&self) -> Vec<Mismatch> {
        self.reports.drain()
    }

    /// Counters of each thread, by name.
    pub fn threads(&self) -> impl Iterator<Item = (&str, &ThreadCounters)> {
        self.threads.iter().map(|thread| (thread.name.as_str(), &*thread.counters))
    }

    /// Wakes every thread, so that each thread that is alive advances its count of rounds.
    pub fn nudge(&self) {
        for thread in &self.threads {
            thread.waker.wake();
        }
    }

    /// The next event; pends while there is none.
    pub async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // Every thread has ended without an event.
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
                // A panic was reported as an event.
                let _ = handle.join();
            }
        }
        self.peers.finish_threads();
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.join();
    }
}
