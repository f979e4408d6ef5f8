//! The event loop of the running daemon: lease manager, data plane, links, status requests, signals, timers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::liveness::Liveness;
use super::node::{Node, NodeEvent};
use super::signals::{DaemonSignal, Signals};
use super::status_server::{DaemonState, StatusServer};
use crate::dataplane::Event;
use crate::exit::{Code, Exit};
use crate::host::systemd;
use crate::humanize;
use crate::route::RouteWriter;
use crate::subnet::{LeaseStore, Manager, RunError, SubnetStatus};

/// The parts of a daemon that has been set up.
pub(super) struct Running<'a> {
    pub(super) node: Node<'a>,
    pub(super) manager: Manager,
    pub(super) writer: RouteWriter,
    pub(super) status: watch::Sender<SubnetStatus>,
    pub(super) subscriber: watch::Receiver<SubnetStatus>,
    pub(super) liveness: Liveness,
    pub(super) store: Arc<dyn LeaseStore>,
}

/// Runs until a signal stops the daemon, and says whether this host holds a lease then.
///
/// # Errors
/// [`Code::LeaseLost`] or [`Code::NoLease`] if the host cannot keep or get a lease.
pub(super) async fn run(
    running: Running<'_>,
    signals: &mut Signals,
    server: &mut StatusServer,
) -> Result<bool, Exit> {
    let Running { mut node, manager, writer, status, mut subscriber, mut liveness, store } =
        running;
    let store_name = store.describe();
    let public_ip = manager.public_ip();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut manager = pin!(manager.run(writer, status, async {
        // Dropping the sender stops the manager as well.
        let _ = stopped.await;
    }));
    let mut ready = false;
    let mut retry = interval(RETRY_PERIOD);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sample = interval(liveness.period());
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            outcome = &mut manager => break outcome.map_err(run_exit),
            signal = signals.next() => match signal {
                DaemonSignal::Reload => server.reload(Some(&*store)),
                DaemonSignal::WriteStats => node.write_stats(),
                DaemonSignal::Stop => {
                    tracing::info!("stopping");
                    systemd::stopping("stopping");
                    drop(stop);
                    // Packets are still forwarded while the lease is marked as stopped.
                    break manager.as_mut().await.map_err(run_exit);
                }
            },
            Ok(()) = subscriber.changed() => {
                let status = subscriber.borrow_and_update().clone();
                node.set_routes_stale(!(status.synced && status.connected));
                node.warn_of_leases(&status);
                if status.synced && !ready {
                    ready = true;
                    liveness.set_ready(&summary(&status));
                    tracing::info!(subnet = %status.lease, peers = status.peers.len(), "ready");
                } else if ready {
                    systemd::status(&summary(&status));
                }
                if status.lease != node.subnet()
                    && let Err(exit) = node.move_to(status.lease).await
                {
                    tracing::error!("{exit}; retrying");
                }
            }
            event = node.event() => {
                let outcome = match event {
                    NodeEvent::Plane(event) => {
                        match event {
                            Event::TunLost => {
                                tracing::warn!("the TUN device was deleted; creating it again");
                            }
                            Event::Failed(error) => {
                                tracing::error!("a worker failed: {error}; restarting the data plane");
                            }
                        }
                        node.replace_plane().await
                    }
                    NodeEvent::Link(event) => {
                        let outcome = node.on_link(event).await;
                        // The address of this host may have changed.
                        node.warn_of_leases(&subscriber.borrow());
                        outcome
                    }
                };
                if let Err(exit) = outcome {
                    tracing::error!("{exit}; retrying");
                }
            }
            request = server.request() => {
                let status = subscriber.borrow().clone();
                let state = DaemonState { node: &node, status, store: &store_name };
                server.answer(request, Some(state)).await;
            }
            _ = sample.tick() => {
                node.sample();
                liveness.check(node.plane());
            }
            _ = retry.tick(), if !node.has_plane() => {
                if let Err(exit) = node.replace_plane().await {
                    tracing::debug!(
                        kind = "retry", delay = ?RETRY_PERIOD, "the data plane still cannot be started: {exit}"
                    );
                } else {
                    tracing::info!("forwarding packets again");
                }
            }
        }
        // The lease is moved to a new address only after the data plane receives packets there.
        if node.has_plane() {
            let now = node.public_ip();
            public_ip.send_if_modified(|current| std::mem::replace(current, now) != now);
        }
    };
    if outcome.is_err() {
        systemd::stopping("stopping");
    }
    node.end_captures().await;
    node.stop();
    outcome.map(|()| subscriber.borrow().lease_held)
}

fn run_exit(error: RunError) -> Exit {
    let code = match &error {
        RunError::LeaseLost { .. } => Code::LeaseLost,
        RunError::DuplicatePublicIp(_) | RunError::Acquire(_) => Code::NoLease,
    };
    Exit::new(code, error.to_string())
}

/// The state in one line, for `systemctl status`.
fn summary(status: &SubnetStatus) -> String {
    format!("subnet {}, {}", status.lease, humanize::counted(status.peers.len() as u64, "peer"))
}

/// Time between two attempts to start a data plane that could not be started.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
