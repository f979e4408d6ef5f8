//! The daemon: start-up, event loop and shutdown.
//!
//! All of this module runs on the control thread, together with the lease store's client, the firewall, the
//! link watcher and the HTTP servers. The workers of the data plane run on threads of their own and never
//! wait for the control thread.

mod check;
mod event_loop;
mod explain;
mod liveness;
mod logging;
mod node;
pub mod options;
mod overlap;
mod sandbox;
mod signals;
mod stats_file;
mod status_server;
mod workers;

use std::sync::Arc;

use tokio::sync::watch;

use crate::confine::{self, Confinement, LayerState, WorkerConfinement};
use crate::dataplane::Dataplane;
use crate::exit::{Code, Exit};
use crate::host::interface::{self, ExternalInterface, InterfaceError, InterfaceOptions};
use crate::host::outer::{Hops, OuterNetwork};
use crate::host::ports::{self, Transport};
use crate::host::subnet_file;
use crate::host::subnet_file::PreviousSubnetFile;
use crate::observe::warnings::{Condition, WarningKind, Warnings};
use crate::packet::wire;
use crate::route::{self, Cidr, HopVerdicts};
use crate::runtime;
use crate::subnet::SubnetFileOrigin;
use crate::subnet::store::{self, LeaseStore, UnavailableKind};
use crate::subnet::{
    AcquireError, Manager, ManagerOptions, NextHopChannels, Refusal, SubnetStatus, Timing,
};
use liveness::Liveness;
use logging::Log;
use node::{Node, NodeParts, SubnetFileKeeper};
use overlap::Chosen;
use signals::Signals;
use status_server::StatusServer;

pub use check::check;
pub use options::Options;
pub use stats_file::StatsReport;
pub use workers::Workers;

/// Runs the daemon until a signal stops it.
///
/// # Errors
/// The reason why the daemon cannot start or continue, with its exit code; without the message if the log has
/// it.
pub fn run(options: &Options) -> Result<(), Exit> {
    let (log, writer) = logging::init(options)?;
    let prepared = Dataplane::prepare().map_err(node::start_exit);
    ports::remember(ports_of(options));
    let (confinement, worker) = confine::process(options.harden, &sandbox::allowed(options));
    writer.start(worker.clone())?;
    log_confinement(&confinement);
    let helper = worker.clone();
    let runtime = runtime::build(move || {
        if let Err(error) = helper.enter_helper() {
            tracing::error!("cannot drop the privileges of a file I/O thread: {error}");
        }
    })?;
    let end = log.end();
    let confined = Confined { confinement, worker };
    let outcome = prepared.and_then(|()| runtime.block_on(daemon(options, log, confined)));
    runtime::end(runtime);
    end.finish(outcome)
}

/// The ports that the daemon is going to listen on; that of the backend as far as it is known without the config.
fn ports_of(options: &Options) -> impl Iterator<Item = (Transport, u16)> {
    let metrics = options.metrics_addr.map(|address| address.port());
    let tcp = [Some(options.healthz_port), metrics].into_iter().flatten().filter(|port| *port != 0);
    tcp.map(|port| (Transport::Tcp, port)).chain([(Transport::Udp, wire::DEFAULT_PORT)])
}

/// Logs the confinement of the process in one line.
fn log_confinement(confinement: &Confinement) {
    let (on, off): (Vec<_>, Vec<_>) = confinement.layers.iter().partition(|layer| layer.on);
    let list = |layers: Vec<&LayerState>| {
        let layers = layers.iter().map(|layer| format!("{} ({})", layer.name, layer.note));
        layers.collect::<Vec<_>>().join("; ")
    };
    match (on.is_empty(), off.is_empty()) {
        (true, _) => tracing::warn!("not confined: {}", list(off)),
        (false, true) => tracing::info!("confined: {}", list(on)),
        (false, false) => tracing::warn!("confined: {}; without {}", list(on), list(off)),
    }
}

/// Runs the daemon, and says at a clean end whether this host holds a lease.
async fn daemon(options: &Options, log: Log, confined: Confined) -> Result<bool, Exit> {
    let mut signals = Signals::listen()
        .map_err(|error| Exit::new(Code::System, format!("cannot listen for signals: {error}")))?;
    let refusal = Refusal::default();
    let (mut server, liveness) =
        StatusServer::start(options, log, confined.confinement.clone(), refusal.clone())?;
    let running = tokio::select! {
        running = start(options, liveness, confined, refusal) => running?,
        () = server.answer_during_start(&mut signals) => {
            tracing::info!("stopping before startup was complete");
            return Ok(false);
        }
    };
    event_loop::run(running, &mut signals, &mut server).await
}

/// The confinement of the process, and the one that the packet threads enter.
struct Confined {
    confinement: Confinement,
    worker: WorkerConfinement,
}

/// Everything up to the first packet: interface, network config, lease, data plane.
///
/// # Errors
/// The step that failed, with the exit code of its kind.
async fn start(
    options: &Options,
    mut liveness: Liveness,
    confined: Confined,
    refusal: Refusal,
) -> Result<event_loop::Running<'_>, Exit> {
    let warnings = liveness.health().warnings();
    let keeper = SubnetFileKeeper::open(&options.subnet_file.path, warnings.clone())?;
    let previous = subnet_file::read_previous(&options.subnet_file.path);
    for problem in &previous.problems {
        tracing::warn!("{problem}");
    }
    let registry = open_store(options).await?;
    let interface = choose_interface(options, None).await?;
    let manager_options = ManagerOptions {
        exit_on_lease_loss: options.exit_on_lease_loss,
        timing: Timing { renew_margin: options.renew_margin(), ..Timing::default() },
        refusal,
        ..ManagerOptions::new(interface.public_ip)
    };
    tokio::spawn(report_refusals(
        manager_options.refusal.subscribe(),
        registry.describe(),
        liveness.health().warnings(),
    ));
    liveness.set_waiting("waiting for the network config");
    let manager = Manager::new(Arc::clone(&registry), manager_options.clone());
    let config = manager.wait_for_config().await.map_err(overlap::config_exit)?;
    let servers = options.store.options().settings().access().servers;
    let outer = OuterNetwork::connect(servers)
        .await
        .map_err(|error| Exit::new(Code::System, error.to_string()))?;
    let chosen = Chosen { interface, config };
    let Chosen { interface, config } = overlap::wait_while_overlapping(
        chosen,
        options,
        previous.subnet,
        &outer,
        &*registry,
        &manager,
        &mut liveness,
    )
    .await?;
    tracing::info!(
        network = %config.network,
        subnet_len = config.subnet_len,
        port = config.port,
        "found the network config, backend udp"
    );
    if !config.not_carried.is_empty() {
        tracing::warn!(
            "the network config also enables IPv6 ({}), but the udp backend carries only IPv4",
            config.not_carried.join(", ")
        );
    }
    if config.port >= FIRST_UNPRIVILEGED_PORT
        && let Err(error) = confine::give_up_low_ports(&confined.confinement)
    {
        tracing::warn!("cannot drop CAP_NET_BIND_SERVICE: {error}");
    }
    // The host may have got another address while the daemon waited for the config.
    let interface = choose_interface(options, Some(&interface)).await?;
    liveness.set_waiting("waiting for a subnet lease");
    let store = registry.identity().await.unwrap_or_default();
    let mut manager = Manager::new(
        Arc::clone(&registry),
        ManagerOptions {
            public_ip: interface.public_ip,
            previous: trusted_previous_subnet(&previous, options, &store),
            avoid: vec![Cidr::new(interface.address, 32), Cidr::new(interface.public_ip, 32)],
            ..manager_options
        },
    );
    let lease = manager.acquire(&config).await.map_err(acquire_exit)?;
    let (writer, routes) = route::table(config.network, config.subnet_len);
    // Until the first verdicts every next hop inside of the overlay network is withheld.
    let suspect = vec![config.network];
    let (verdicts, decided) = watch::channel(HopVerdicts { suspect, ..HopVerdicts::default() });
    let (asked, questions) = watch::channel(None);
    manager.check_next_hops(NextHopChannels { questions: asked, verdicts: decided });
    let hops = Hops { questions, verdicts };
    let node = Node::start(NodeParts {
        options,
        config: &config,
        interface,
        subnet: lease.subnet,
        routes,
        previous: &previous,
        store,
        confined,
        warnings,
        keeper,
        outer,
        hops,
    })
    .await?;
    let (status, subscriber) = watch::channel(SubnetStatus::new(&lease));
    liveness.set_waiting("waiting for the list of peers");
    Ok(event_loop::Running { node, manager, writer, status, subscriber, liveness, store: registry })
}

/// Opens the lease store, on a thread that may block: a directory may be on a server that hangs.
async fn open_store(options: &Options) -> Result<Arc<dyn LeaseStore>, Exit> {
    let store = options.store.options();
    let opened = tokio::task::spawn_blocking(move || store::open(&store)).await;
    opened
        .map_err(|error| Exit::new(Code::System, format!("cannot open the lease store: {error}")))?
        .map_err(|error| Exit::new(Code::Config, format!("cannot use the lease store: {error}")))
}

/// Keeps a warning for as long as the lease store refuses what this host needs.
async fn report_refusals(
    mut refusal: watch::Receiver<Option<UnavailableKind>>,
    store: String,
    warnings: Warnings,
) {
    while refusal.changed().await.is_ok() {
        let now = refusal.borrow_and_update().map(|kind| Condition {
            text: format!("{store} refuses this host: {kind}"),
            remedy: Some(kind.remedy().to_owned()),
        });
        warnings.set(WarningKind::StoreRefuses, now.into_iter().collect());
    }
}

/// The subnet that this host had, unless its subnet file was written by another machine or for
/// another lease store, as on a cloned disk.
fn trusted_previous_subnet(
    previous: &PreviousSubnetFile,
    options: &Options,
    store: &str,
) -> Option<Cidr> {
    let subnet = previous.subnet?;
    let mismatch = SubnetFileOrigin::load(&SubnetFileOrigin::path(&options.subnet_file.path))
        .and_then(|origin| origin.mismatch(&SubnetFileOrigin::here(store, subnet)));
    if let Some(why) = &mismatch {
        tracing::warn!(
            file = %options.subnet_file.path.display(), %subnet,
            "not requesting the subnet recorded in the subnet file: {why}"
        );
    }
    mismatch.is_none().then_some(subnet)
}

/// Lower ports need CAP_NET_BIND_SERVICE: default of `ip_unprivileged_port_start`, `ip-sysctl.rst`.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

fn interface_options(options: &Options) -> InterfaceOptions {
    InterfaceOptions {
        iface: options.iface.clone(),
        iface_regex: options.iface_regex.clone(),
        can_reach: options.iface_can_reach,
        public_ip: options.public_ip,
    }
}

async fn choose_interface_of(options: &Options) -> Result<ExternalInterface, InterfaceError> {
    interface::choose(&interface_options(options)).await
}

/// Chooses the interface between hosts, and logs it unless it is the one chosen `before`.
async fn choose_interface(
    options: &Options,
    before: Option<&ExternalInterface>,
) -> Result<ExternalInterface, Exit> {
    let now = choose_interface_of(options).await.map_err(interface_exit)?;
    if before != Some(&now) {
        tracing::info!(
            interface = %now.name,
            address = %now.address,
            mtu = now.mtu,
            public_ip = %now.public_ip,
            "using this interface: {}", now.reason
        );
    }
    Ok(now)
}

fn interface_exit(error: InterfaceError) -> Exit {
    let code = match &error {
        InterfaceError::Regex { .. } => Code::Usage,
        InterfaceError::Netlink(_) => Code::System,
        _ => Code::NoInterface,
    };
    Exit::new(code, error.to_string())
}

fn acquire_exit(error: AcquireError) -> Exit {
    Exit::new(Code::NoLease, format!("failed to acquire lease: {error}"))
}
