//! Options of a manager.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Refusal;
use crate::route::Cidr;
use crate::subnet::Instance;

/// Options of a manager.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// The address under which this host announces its subnet.
    pub public_ip: Ipv4Addr,
    /// This host's previous subnet, from its subnet file. The subnet of a file that came with a
    /// cloned disk or from another cluster must not be given here: see
    /// [`SubnetFileOrigin`](crate::subnet::SubnetFileOrigin).
    pub previous: Option<Cidr>,
    /// Prefixes that a new subnet must not overlap, such as this host's own addresses.
    pub avoid: Vec<Cidr>,
    /// Whether to end, rather than to acquire another subnet, if another host takes the lease.
    pub exit_on_lease_loss: bool,
    /// The identity of this host.
    pub instance: Instance,
    /// Intervals and time limits.
    pub timing: Timing,
    /// Where the manager says that the lease store refuses what this host needs.
    pub refusal: Refusal,
}

impl ManagerOptions {
    /// Options for a host with this address, with defaults for everything else.
    pub fn new(public_ip: Ipv4Addr) -> Self {
        Self {
            public_ip,
            previous: None,
            avoid: Vec::new(),
            exit_on_lease_loss: false,
            instance: Instance::current(),
            timing: Timing::default(),
            refusal: Refusal::default(),
        }
    }
}

/// Intervals and time limits of a manager.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Time to live of a lease (flannel: 24 h).
    pub ttl: Duration,
    /// Time between the renewal of a lease and its end (flannel: `--subnet-lease-renew-margin`).
    pub renew_margin: Duration,
    /// Silence of a watch after which it is asked for a sign of life.
    pub probe: Duration,
    /// Time limit for that sign of life, after which a second watch is started beside the first.
    /// A lease store that is known to be slow gets more.
    pub suspect: Duration,
    /// Interval between concurrent attempts to start a watch.
    pub hedge: Duration,
    /// First wait after a failure.
    pub backoff_first: Duration,
    /// Longest wait between attempts to reach the lease store. It bounds the delay until the
    /// store's return is noticed.
    pub backoff_limit: Duration,
    /// Interval of full lists while the watch works.
    pub resync: Duration,
    /// Interval of checks of this host's own entry, independent of the watch.
    pub check: Duration,
    /// Time for which a lease that another instance granted has to stay unclaimed after it was
    /// taken over.
    pub contest: Duration,
    /// Time limit for telling the lease store, at a stop, that this daemon has stopped.
    pub leave: Duration,
    /// Longest interval between reads of a missing or wrong config.
    pub config_poll: Duration,
    /// Interval of log lines about a failure that lasts.
    pub log_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(86_400),
            renew_margin: Duration::from_secs(3600),
            probe: Duration::from_secs(2),
            suspect: Duration::from_secs(1),
            hedge: Duration::from_secs(1),
            backoff_first: Duration::from_millis(50),
            backoff_limit: Duration::from_secs(1),
            resync: Duration::from_secs(3600),
            check: Duration::from_secs(60),
            contest: Duration::from_secs(3),
            leave: Duration::from_millis(500),
            config_poll: Duration::from_secs(1),
            log_interval: LOG_INTERVAL,
        }
    }
}

/// Interval of log lines about a failure that lasts.
const LOG_INTERVAL: Duration = Duration::from_secs(15);
