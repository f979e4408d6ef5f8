//! The running daemon: one loop that hears the manager, the data plane, the links and the signals.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::liveness::Vitals;
use super::node::{Node, NodeEvent};
use super::signals::Signals;
use super::status_server::{Observer, View};
use crate::dataplane::Event;
use crate::exit::{Code, Exit};
use crate::host::systemd;
use crate::route::RouteWriter;
use crate::subnet::{Manager, RunError, SubnetStatus};

/// What a started daemon consists of.
pub(super) struct Running<'a> {
    pub(super) node: Node<'a>,
    pub(super) manager: Manager,
    pub(super) writer: RouteWriter,
    pub(super) status: watch::Sender<SubnetStatus>,
    pub(super) subscriber: watch::Receiver<SubnetStatus>,
    pub(super) vitals: Vitals,
    /// The lease store, in words.
    pub(super) store_name: String,
}

/// Runs until told to stop or until there is no lease to be had.
pub(super) async fn run(
    running: Running<'_>,
    signals: &mut Signals,
    observer: &mut Observer,
) -> Result<(), Exit> {
    let Running { mut node, manager, writer, status, mut subscriber, mut vitals, store_name } =
        running;
    let public_ip = manager.public_ip();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut manager = pin!(manager.run(writer, status, async {
        // A dropped sender stops as well.
        let _ = stopped.await;
    }));
    let mut ready = false;
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = interval(vitals.period());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            outcome = &mut manager => break outcome.map_err(run_exit),
            write = signals.next() => match write {
                true => node.write_stats(),
                false => break Ok(()),
            },
            Ok(()) = subscriber.changed() => {
                let status = subscriber.borrow_and_update().clone();
                node.set_routes_stale(!(status.synced && status.connected));
                if status.synced && !ready {
                    ready = true;
                    vitals.ready(&summary(&status));
                    tracing::info!(subnet = %status.lease, peers = status.peers.len(), "ready");
                }
                if status.lease != node.subnet()
                    && let Err(exit) = node.move_to(status.lease).await
                {
                    tracing::error!("{exit}; trying again");
                }
            }
            event = node.event() => {
                let outcome = match event {
                    NodeEvent::Plane(event) => {
                        match event {
                            Event::TunLost => {
                                tracing::warn!("the TUN device was deleted; making it again");
                            }
                            Event::Failed(error) => {
                                tracing::error!("a worker failed: {error}; starting anew");
                            }
                        }
                        node.replace_plane().await
                    }
                    NodeEvent::Link(event) => node.on_link(event).await,
                };
                if let Err(exit) = outcome {
                    tracing::error!("{exit}; trying again");
                }
            }
            request = observer.request() => {
                let status = subscriber.borrow().clone();
                observer.answer(request, Some(View { node: &node, status, store: &store_name })).await;
            }
            _ = look.tick() => {
                node.look();
                vitals.check(node.plane());
            }
            _ = retry.tick(), if !node.has_plane() => {
                if let Err(exit) = node.replace_plane().await {
                    tracing::debug!("still no data plane: {exit}");
                } else {
                    tracing::info!("packets are being carried again");
                }
            }
        }
        // The lease follows once packets are taken at the new address, at whichever try.
        if node.has_plane() {
            let now = node.public_ip();
            public_ip.send_if_modified(|told| std::mem::replace(told, now) != now);
        }
    };
    tracing::info!("stopping");
    systemd::stopping("stopping");
    drop(stop);
    node.end_captures().await;
    node.stop();
    outcome
}

fn run_exit(error: RunError) -> Exit {
    let code = match &error {
        RunError::LeaseLost { .. } => Code::LeaseLost,
        RunError::DuplicatePublicIp(_) | RunError::Acquire(_) => Code::NoLease,
    };
    Exit::new(code, error.to_string())
}

/// One line for `systemctl status`.
fn summary(status: &SubnetStatus) -> String {
    format!("subnet {}, {} peers", status.lease, status.peers.len())
}

/// How often a data plane that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(1);
