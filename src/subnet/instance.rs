//! Who this daemon is, so that hosts that announce one public IP can be told apart.
//!
//! flannel's value carries nothing but the public IP, and nothing may be added to it. But who
//! grants an etcd lease may choose its number, so the number is where an instance signs: one fixed
//! mark, a print of the host, and a random rest. Stock flanneld lets the server choose, and shows
//! no mark.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One daemon's host: machine, boot and network namespace. It survives a restart of the daemon;
/// a cloned machine has another one, even if its machine-id was cloned with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// The host's name, for messages.
    pub name: String,
    fingerprint: Fingerprint,
}

impl Instance {
    /// The instance that this process belongs to.
    pub fn current() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
        let name = read("/proc/sys/kernel/hostname").trim().to_owned();
        let machine = read("/etc/machine-id");
        let boot = read("/proc/sys/kernel/random/boot_id");
        Self::new(name, &[&machine, &boot, &namespace.to_string_lossy()])
    }

    /// An instance of the given name and marks of identity.
    pub fn new(name: String, marks: &[&str]) -> Self {
        let mut hasher = DefaultHasher::new();
        marks.hash(&mut hasher);
        Self { name, fingerprint: Fingerprint(hasher.finish() as u32 & FINGERPRINT_MASK) }
    }

    /// What this instance signs its leases with.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A number for a new lease of this instance.
    pub fn sign(&self, rng: &mut fastrand::Rng) -> LeaseId {
        let rest = rng.u32(..) & RANDOM_MASK;
        LeaseId(MARK << 48 | i64::from(self.fingerprint.0) << 24 | i64::from(rest))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (instance {})", self.name, self.fingerprint)
    }
}

/// 24 bits by which an instance knows its own leases.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(u32);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

/// The number of a lease in the registry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// Who signed the lease; `None` if it was stock flanneld or a human.
    pub fn signer(self) -> Option<Fingerprint> {
        (self.0 >> 48 == MARK).then_some(Fingerprint((self.0 >> 24) as u32 & FINGERPRINT_MASK))
    }
}

impl fmt::Display for LeaseId {
    /// As `etcdctl` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Top bits of a lease that one of us granted. A server's own numbers begin with bits of its
/// member and its clock; one in 65,536 would show the same by chance, and matters only if it also
/// announces our public IP.
const MARK: i64 = 0x0f1a;
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
        assert_eq!(LeaseId(0x694d_7185_8bc8_f007).signer(), None);
        assert_eq!(Instance::current(), Instance::current());
    }
}
