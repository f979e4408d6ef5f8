//! Capabilities: the control thread keeps a few, other threads none.

use std::io;

use caps::errors::CapsError;
use caps::runtime::ambient_set_supported;
use caps::{CapSet, Capability, CapsHashSet};

/// For making the TUN device again, its address and routes, and the firewall rules.
const EFFECTIVE: [Capability; 1] = [Capability::CAP_NET_ADMIN];

/// For a health or backend port below 1024; the backend port is in the network config.
const LOW_PORTS: Capability = Capability::CAP_NET_BIND_SERVICE;

/// For the firewall's programs: legacy iptables opens a raw socket.
const FOR_PROGRAMS: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// Keeps the capabilities that the control thread needs and programs may inherit; drops all others, also
/// from the bounding set, which limits what programs can gain. Returns a sentence about what is left.
///
/// # Errors
/// As `capset(2)`, which allows every thread to give up capabilities.
pub(super) fn reduce() -> io::Result<String> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let keep: CapsHashSet =
        FOR_PROGRAMS.into_iter().filter(|right| permitted.contains(right)).collect();
    let own = EFFECTIVE.into_iter().chain([LOW_PORTS]);
    let effective: CapsHashSet = own.filter(|right| permitted.contains(right)).collect();
    // With no_new_privs no program gains capabilities, so a bounding set that this process may not
    // reduce (without CAP_SETPCAP) makes no difference.
    let bounded = bound().is_ok();
    if ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient).map_err(failed)?;
    }
    // In this order each set is a subset of the previous one, as capset(2) demands.
    caps::set(None, CapSet::Inheritable, &keep).map_err(failed)?;
    caps::set(None, CapSet::Effective, &effective).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &keep.union(&effective).copied().collect())
        .map_err(failed)?;
    if ambient_set_supported().is_ok() {
        caps::set(None, CapSet::Ambient, &keep).map_err(failed)?;
    }
    let mut kept: Vec<_> = keep.iter().map(ToString::to_string).collect();
    kept.sort();
    Ok(match (kept.is_empty(), bounded) {
        (true, _) => "the process has none".into(),
        (false, true) => format!("left are {}", kept.join(" ")),
        (false, false) => format!("left are {}; the bounding set is as it was", kept.join(" ")),
    })
}

/// Gives up the capability for ports below 1024, once the ports are known to be others.
///
/// # Errors
/// As `capset(2)`.
pub(super) fn drop_low_ports() -> io::Result<()> {
    caps::drop(None, CapSet::Effective, LOW_PORTS).map_err(failed)?;
    caps::drop(None, CapSet::Permitted, LOW_PORTS).map_err(failed)
}

/// Drops every capability of the calling thread.
///
/// # Errors
/// As `capset(2)`.
pub(super) fn drop_all() -> io::Result<()> {
    if ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient).map_err(failed)?;
    }
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(failed)?;
    }
    Ok(())
}

fn bound() -> Result<(), CapsError> {
    let bounding = caps::read(None, CapSet::Bounding)?;
    let others = bounding.into_iter().filter(|right| !FOR_PROGRAMS.contains(right));
    for right in others {
        caps::drop(None, CapSet::Bounding, right)?;
    }
    Ok(())
}

fn failed(error: CapsError) -> io::Error {
    io::Error::other(format!("capabilities: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> [CapsHashSet; 4] {
        [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient]
            .map(|set| caps::read(None, set).unwrap())
    }

    /// The calls change the calling thread only, so a thread of the test may give up everything.
    #[test]
    fn what_is_left() {
        std::thread::spawn(|| {
            let had = caps::read(None, CapSet::Permitted).unwrap();
            let keep: CapsHashSet =
                FOR_PROGRAMS.into_iter().filter(|right| had.contains(right)).collect();
            reduce().unwrap();
            drop_low_ports().unwrap();
            let [permitted, effective, inheritable, ambient] = sets();
            assert_eq!((&permitted, &inheritable, &ambient), (&keep, &keep, &keep));
            assert!(effective.iter().all(|right| EFFECTIVE.contains(right)));
            drop_all().unwrap();
            assert!(sets().iter().all(CapsHashSet::is_empty));
            assert!(caps::set(None, CapSet::Effective, &keep).is_err() || keep.is_empty());
        })
        .join()
        .unwrap();
    }
}
