//! The identity of a daemon's host, which distinguishes two hosts that announce one public IP.
//!
//! The value of a flannel lease holds the public IP only, and nothing may be added to it. But the
//! client that asks etcd for a lease may choose the lease's number (`LeaseGrantRequest.ID`). This
//! program's lease numbers consist of a fixed mark, a fingerprint of the host, and random bits.
//! Stock flanneld lets the server choose the number, which then has no mark.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The identity of a daemon's host: machine, boot and network namespace. A restart of the daemon
/// does not change it. A cloned machine has another one, even if its machine-id was cloned too,
/// because its boot ID differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// The host's name, for messages.
    pub name: String,
    fingerprint: Fingerprint,
}

impl Instance {
    /// The instance of this process.
    pub fn current() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
        let name = read("/proc/sys/kernel/hostname").trim().to_owned();
        let machine = read("/etc/machine-id");
        let boot = read("/proc/sys/kernel/random/boot_id");
        Self::new(name, &[&machine, &boot, &namespace.to_string_lossy()])
    }

    /// An instance with the given host name and the given identifying strings.
    pub fn new(name: String, identifiers: &[&str]) -> Self {
        let mut hasher = DefaultHasher::new();
        identifiers.hash(&mut hasher);
        Self { name, fingerprint: Fingerprint(hasher.finish() as u32 & FINGERPRINT_MASK) }
    }

    /// The fingerprint in the numbers of this instance's leases.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A number for a new lease of this instance.
    pub fn sign(&self, rng: &mut fastrand::Rng) -> LeaseId {
        self.number(MARK, rng)
    }

    /// A number for the lease that this instance's daemon leaves behind when it stops.
    pub fn sign_stopped(&self, rng: &mut fastrand::Rng) -> LeaseId {
        self.number(STOPPED_MARK, rng)
    }

    fn number(&self, mark: i64, rng: &mut fastrand::Rng) -> LeaseId {
        let rest = rng.u32(..) & RANDOM_MASK;
        LeaseId(mark << 48 | i64::from(self.fingerprint.0) << 24 | i64::from(rest))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (instance {})", self.name, self.fingerprint)
    }
}

/// 24 bits that identify the instance that granted a lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(u32);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

/// The number of a lease in the lease store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The instance that asked for the lease; `None` if stock flanneld or an operator did.
    pub fn signer(self) -> Option<Fingerprint> {
        let mark = self.0 >> 48;
        let fingerprint = Fingerprint((self.0 >> 24) as u32 & FINGERPRINT_MASK);
        (mark == MARK || mark == STOPPED_MARK).then_some(fingerprint)
    }

    /// Whether the daemon that asked for the lease has stopped, and said so.
    pub fn is_stopped(self) -> bool {
        self.0 >> 48 == STOPPED_MARK
    }

    /// As [`signer`](Self::signer), but `None` for a daemon that has stopped.
    pub fn running_signer(self) -> Option<Fingerprint> {
        self.signer().filter(|_| !self.is_stopped())
    }
}

impl fmt::Display for LeaseId {
    /// As `etcdctl` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Top 16 bits of the numbers of this program's leases. A number that the etcd server chooses
/// begins with bits of the member's ID (`pkg/idutil`); one in 65,536 has these bits by chance,
/// which matters only if the lease also announces this host's public IP.
const MARK: i64 = 0x0f1a;
/// The same for the lease of a daemon that has stopped. Key, value and time to live are as before, so stock
/// flanneld sees a renewal.
const STOPPED_MARK: i64 = 0x0f1b;
const FINGERPRINT_MASK: u32 = 0xff_ffff;
const RANDOM_MASK: u32 = 0xff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_signed() {
        let mut rng = fastrand::Rng::with_seed(7);
        let one = Instance::new("one".into(), &["a", "b"]);
        let two = Instance::new("two".into(), &["a", "c"]);
        let lease = one.sign(&mut rng);
        assert!(lease.0 > 0, "etcd wants a positive number");
        assert_eq!(lease.signer(), Some(one.fingerprint()));
        assert_ne!(lease.signer(), Some(two.fingerprint()));
        assert_ne!(lease, one.sign(&mut rng));
        assert_eq!(lease.running_signer(), lease.signer());
        let left = one.sign_stopped(&mut rng);
        assert!(left.is_stopped() && !lease.is_stopped());
        assert_eq!((left.signer(), left.running_signer()), (Some(one.fingerprint()), None));
        assert_eq!(LeaseId(0x694d_7185_8bc8_f007).signer(), None);
        assert_eq!(Instance::current(), Instance::current());
    }
}
