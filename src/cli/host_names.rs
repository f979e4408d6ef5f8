//! Names of hosts for people, by the host's own resolver: `/etc/hosts`, DNS.
//!
//! flannel's leases have no names. The command looks them up, never the daemon, and does not wait for a name server
//! that is slow.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::sys::resolver::host_name;

/// The names of hosts, as far as they have been found. Each address is looked up once.
pub(super) struct HostNames {
    lookups: Option<Lookups>,
    /// The addresses that were asked about; a name, once it is found.
    known: HashMap<Ipv4Addr, Option<String>>,
    pending: usize,
    /// Until when the output may wait for names.
    deadline: Instant,
}

/// Threads that look up names. A lookup cannot be interrupted, so nothing waits for them.
struct Lookups {
    questions: Sender<Ipv4Addr>,
    answers: Receiver<(Ipv4Addr, Option<String>)>,
}

impl Default for HostNames {
    fn default() -> Self {
        Self::by(host_name)
    }
}

impl HostNames {
    /// No name is looked up.
    pub(super) fn disabled() -> Self {
        Self { lookups: None, known: HashMap::new(), pending: 0, deadline: Instant::now() }
    }

    fn by(look_up: impl Fn(Ipv4Addr) -> Option<String> + Clone + Send + 'static) -> Self {
        let (questions, asked) = unbounded::<Ipv4Addr>();
        let (answer, answers) = unbounded();
        for _ in 0..THREADS {
            let (asked, answer, look_up) = (asked.clone(), answer.clone(), look_up.clone());
            // Without a thread there is no name, which is no reason to fail.
            let _ = thread::Builder::new().spawn(move || {
                for address in asked {
                    let _ = answer.send((address, look_up(address)));
                }
            });
        }
        Self { lookups: Some(Lookups { questions, answers }), ..Self::disabled() }
    }

    /// Starts the lookup of addresses that are new.
    pub(super) fn look_up(&mut self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        let Some(lookups) = &self.lookups else { return };
        let before = self.pending;
        for address in addresses {
            if self.known.len() < MOST && !self.known.contains_key(&address) {
                self.known.insert(address, None);
                self.pending += usize::from(lookups.questions.send(address).is_ok());
            }
        }
        if self.pending > before {
            self.deadline = Instant::now() + PATIENCE;
        }
    }

    /// Waits for the names, until [`PATIENCE`] after the last [`look_up`](Self::look_up) that had a new address.
    pub(super) fn wait(&mut self) {
        let Some(lookups) = &self.lookups else { return };
        while self.pending > 0
            && let Ok((address, name)) = lookups.answers.recv_deadline(self.deadline)
        {
            self.known.insert(address, name);
            self.pending -= 1;
        }
    }

    /// The name of a host, if it is known by now.
    pub(super) fn name(&self, address: Ipv4Addr) -> Option<&str> {
        self.known.get(&address)?.as_deref()
    }
}

/// Lookups at a time: a name server that is slow for one name is not for all.
const THREADS: usize = 16;
/// Most names that are looked up.
const MOST: usize = 4096;
/// How long names may delay the output.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SLOW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn a_slow_name_server_delays_nothing_for_more_than_a_second() {
        let mut names = HostNames::by(|address| {
            if address == SLOW {
                thread::sleep(Duration::from_secs(20));
            }
            Some(format!("host-{}", address.octets()[3]))
        });
        let begun = Instant::now();
        names.look_up([SLOW, ONE]);
        names.wait();
        assert_eq!((names.name(ONE), names.name(SLOW)), (Some("host-1"), None));
        // It is asked once, and not waited for again.
        names.look_up([SLOW, ONE]);
        names.wait();
        assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    }

    #[test]
    fn numeric_means_no_lookup() {
        let mut names = HostNames::disabled();
        names.look_up([ONE]);
        names.wait();
        assert_eq!(names.name(ONE), None);
    }
}
