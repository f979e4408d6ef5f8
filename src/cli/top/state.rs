//! The state of `top`: the last two samples of the daemon, the history of its rates, and the settings that
//! keys change.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Sample;
use crate::dataplane::PeerTraffic;
use crate::dataplane::counters::DirectionStats;
use crate::observe::protocol::snapshot::{Snapshot, Thread};

/// The state behind the screen.
pub(super) struct TopState {
    pub(super) now: Option<Box<Snapshot>>,
    before: Option<Box<Snapshot>>,
    /// Why the daemon does not answer; `None` while it does.
    pub(super) error: Option<String>,
    /// Bits per second, the newest last.
    pub(super) out: VecDeque<u64>,
    pub(super) into: VecDeque<u64>,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    /// Number of peers above the first visible one.
    pub(super) scroll: usize,
}

/// The sort key of the peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    /// Both directions together.
    Rate,
    Out,
    In,
    Subnet,
    Host,
    /// Time since the last packet from the peer.
    Seen,
}

/// One peer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PeerRow {
    pub(super) subnet: String,
    pub(super) host: Ipv4Addr,
    /// Bytes and packets per second.
    pub(super) out: (f64, f64),
    pub(super) into: (f64, f64),
    /// Seconds since the last packet from the peer.
    pub(super) seen: Option<f64>,
}

/// The drops of one direction for one reason.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct DropRow {
    pub(super) direction: &'static str,
    pub(super) reason: String,
    pub(super) rate: f64,
    pub(super) total: u64,
}

/// Takes the counters of a direction out of a snapshot.
type DirectionOf = fn(&Snapshot) -> &DirectionStats;
/// Takes one counter out of a snapshot.
type CounterOf = fn(&Snapshot) -> u64;

impl TopState {
    pub(super) fn new() -> Self {
        Self {
            now: None,
            before: None,
            error: None,
            out: VecDeque::new(),
            into: VecDeque::new(),
            sort: Sort::Rate,
            reverse: false,
            scroll: 0,
        }
    }

    /// Adds a sample.
    pub(super) fn add(&mut self, sample: Sample) {
        let snapshot = match sample {
            Ok(snapshot) => snapshot,
            Err(error) => return self.error = Some(error),
        };
        self.error = None;
        // After a restart of the daemon its counters begin at zero.
        self.before = (self.now.take()).filter(|now| {
            now.process.pid == snapshot.process.pid && now.process.uptime < snapshot.process.uptime
        });
        self.now = Some(snapshot);
        if self.before.is_some() {
            let bits = |state: &Self, direction: DirectionOf| {
                (state.rate(|s| direction(s).carried_bytes) * 8.0) as u64
            };
            let (out, into) = (bits(self, |s| &s.stats.egress), bits(self, |s| &s.stats.ingress));
            for (history, rate) in [(&mut self.out, out), (&mut self.into, into)] {
                history.push_back(rate);
                if history.len() > HISTORY {
                    history.pop_front();
                }
            }
        }
    }

    /// Acts on a key; returns whether it ends the program.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        let last = self.rows().len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('t') => self.sort_by(Sort::Rate),
            KeyCode::Char('o') => self.sort_by(Sort::Out),
            KeyCode::Char('i') => self.sort_by(Sort::In),
            KeyCode::Char('s') => self.sort_by(Sort::Subnet),
            KeyCode::Char('h') => self.sort_by(Sort::Host),
            KeyCode::Char('l') => self.sort_by(Sort::Seen),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Down | KeyCode::Char('j') => self.scroll = (self.scroll + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = (self.scroll + PAGE).min(last),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = last,
            _ => {}
        }
        false
    }

    fn sort_by(&mut self, sort: Sort) {
        (self.sort, self.reverse, self.scroll) = (sort, false, 0);
    }

    /// The rate of a counter per second; 0 until there are two samples.
    pub(super) fn rate(&self, counter: impl Fn(&Snapshot) -> u64) -> f64 {
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => {
                let seconds = now.process.uptime - before.process.uptime;
                counter(now).saturating_sub(counter(before)) as f64 / seconds
            }
            _ => 0.0,
        }
    }

    /// The peers, sorted.
    pub(super) fn rows(&self) -> Vec<PeerRow> {
        let Some(now) = &self.now else { return vec![] };
        let by_host = |snapshot: &Snapshot| -> HashMap<Ipv4Addr, PeerTraffic> {
            snapshot.traffic.iter().map(|traffic| (traffic.address, traffic.clone())).collect()
        };
        let traffic = by_host(now);
        let before = self.before.as_deref().map(|before| (by_host(before), before.process.uptime));
        let mut rows: Vec<_> = now
            .peers
            .iter()
            .map(|peer| {
                let traffic = traffic.get(&peer.public_ip);
                let rate = |counter: fn(&PeerTraffic) -> u64| match (traffic, &before) {
                    (Some(traffic), Some((before, uptime))) => {
                        let before = before.get(&peer.public_ip).map_or(0, counter);
                        let seconds = now.process.uptime - uptime;
                        counter(traffic).saturating_sub(before) as f64 / seconds
                    }
                    _ => 0.0,
                };
                PeerRow {
                    subnet: peer.subnet.to_string(),
                    host: peer.public_ip,
                    out: (rate(|t| t.sent_bytes), rate(|t| t.sent_packets)),
                    into: (rate(|t| t.received_bytes), rate(|t| t.received_packets)),
                    seen: traffic.and_then(|t| t.last_received).map(|ago| ago.as_secs_f64()),
                }
            })
            .collect();
        // The snapshot has the peers by subnet, and a stable sort keeps that order among equals.
        let descending = |rate: f64| Reverse((rate * 1e3) as u64);
        match self.sort {
            Sort::Rate => rows.sort_by_key(|row| descending(row.out.0 + row.into.0)),
            Sort::Out => rows.sort_by_key(|row| descending(row.out.0)),
            Sort::In => rows.sort_by_key(|row| descending(row.into.0)),
            Sort::Subnet => {}
            Sort::Host => rows.sort_by_key(|row| row.host),
            Sort::Seen => {
                rows.sort_by_key(|row| row.seen.map_or(u64::MAX, |ago| (ago * 1e3) as u64))
            }
        }
        if self.reverse {
            rows.reverse();
        }
        rows
    }

    /// Reasons for which packets were dropped, the highest rate first.
    pub(super) fn drops(&self) -> Vec<DropRow> {
        let Some(now) = &self.now else { return vec![] };
        let mut drops = vec![];
        let directions: [(_, DirectionOf); 2] =
            [("out", |s| &s.stats.egress), ("in", |s| &s.stats.ingress)];
        for (name, direction) in directions {
            for (reason, &total) in &direction(now).drops {
                let rate =
                    self.rate(|s| direction(s).drops.get(reason).copied().unwrap_or_default());
                drops.push(DropRow { direction: name, reason: reason.to_string(), rate, total });
            }
        }
        let kernel: [(_, _, CounterOf); 2] = [
            ("out", "TUN queue full (kernel)", |s| s.tun_queue_drops),
            ("in", "socket buffer full (kernel)", |s| s.stats.socket_overflows),
        ];
        for (direction, reason, counter) in kernel {
            let (rate, total) = (self.rate(counter), counter(now));
            drops.push(DropRow { direction, reason: reason.to_owned(), rate, total });
        }
        drops.retain(|drops| drops.total > 0);
        drops.sort_by(|a, b| b.rate.total_cmp(&a.rate).then(b.total.cmp(&a.total)));
        drops
    }

    /// Each thread's name, and the shares of time in which it was busy and in which it polled in vain, 0 to 1.
    pub(super) fn threads(&self) -> Vec<(String, f64, f64)> {
        let Some(now) = &self.now else { return vec![] };
        let before = self.before.as_deref().map_or(&[][..], |before| &before.threads);
        now.threads
            .iter()
            .map(|thread| {
                let before = before.iter().find(|before| before.name == thread.name);
                // The counters of a new thread begin at zero.
                let before = before.filter(|before| before.lifetime < thread.lifetime);
                let share = |time: fn(&Thread) -> f64| {
                    let (earlier, born) = before.map_or((0.0, 0.0), |b| (time(b), b.lifetime));
                    let share = (time(thread) - earlier) / (thread.lifetime - born).max(1e-9);
                    share.clamp(0.0, 1.0)
                };
                let polling = share(|thread| thread.spinning);
                let busy = (share(|thread| thread.busy) - polling).max(0.0);
                (thread.name.clone(), busy, polling)
            })
            .collect()
    }
}

/// Length of the history of rates: the widest screen shows as many.
const HISTORY: usize = 600;
/// Number of peers per page.
const PAGE: usize = 10;
