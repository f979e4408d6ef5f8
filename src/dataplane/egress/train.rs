//! Trains: runs of datagrams that one `UDP_SEGMENT` send carries.
//!
//! A train goes to one next hop with one TOS byte. All its datagrams have one length but the last,
//! which may be shorter and closes it. Only the newest train of a next hop grows, and trains leave in the order
//! in which they were opened, so the packets to a next hop are never reordered. Trains to different
//! next hops are filled side by side.

use crate::dataplane::span::Span;
use crate::packet::wire;
use crate::route::{NextHop, PeerIndex, Route};
use crate::sys::mmsg::MAX_SEGMENTS;

/// One datagram: a written header, which may be empty, and a range of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Datagram {
    pub(super) header: Span,
    pub(super) body: Span,
    next: u32,
}

impl Datagram {
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.header.len + self.body.len
    }
}

/// A run of datagrams to one next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Train {
    pub(super) hop: NextHop,
    /// The peer that it is counted under.
    pub(super) peer: PeerIndex,
    /// Length of every datagram but the last.
    pub(super) size: u32,
    /// Number of datagrams.
    pub(super) count: u32,
    /// Their bytes.
    pub(super) bytes: u32,
    /// The TOS byte of the outer header.
    pub(super) tos: u8,
    /// The TOS byte of what it may still take; [`CLOSED`] if it may take nothing.
    takes: u16,
    first: u32,
    last: u32,
}

/// The trains of one batch. Storage is allocated once.
pub(super) struct Trains {
    datagrams: Vec<Datagram>,
    trains: Vec<Train>,
    /// The newest train of a next hop, by a hash of it.
    newest: [u16; BUCKETS],
}

impl Trains {
    pub(super) fn new() -> Self {
        Self {
            datagrams: Vec::with_capacity(MAX_DATAGRAMS),
            trains: Vec::with_capacity(MAX_TRAINS),
            newest: [NONE; BUCKETS],
        }
    }

    pub(super) fn clear(&mut self) {
        for train in &self.trains {
            self.newest[bucket(train.hop)] = NONE;
        }
        self.datagrams.clear();
        self.trains.clear();
    }

    /// Whether a further datagram has room.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.datagrams.len() == MAX_DATAGRAMS || self.trains.len() == MAX_TRAINS
    }

    pub(super) fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// The datagrams of `train`, in order.
    pub(super) fn datagrams(&self, train: &Train) -> impl Iterator<Item = &Datagram> {
        let mut next = train.first;
        (0..train.count).map(move |_| {
            let datagram = &self.datagrams[next as usize];
            next = datagram.next;
            datagram
        })
    }

    /// Appends a datagram to the newest train of the route's next hop, or opens one, of up to
    /// `max_segments`.
    #[inline]
    pub(super) fn push(
        &mut self,
        route: Route,
        tos: u8,
        header: Span,
        body: Span,
        max_segments: u32,
    ) {
        let Route { hop, peer } = route;
        let datagram = Datagram { header, body, next: u32::MAX };
        let len = datagram.len();
        let index = self.datagrams.len() as u32;
        self.datagrams.push(datagram);
        let newest = &mut self.newest[bucket(hop)];
        if let Some(train) = self.trains.get_mut(usize::from(*newest))
            && train.hop == hop
            && train.takes == u16::from(tos)
            && len <= train.size
            && train.count < max_segments
            && train.bytes + len <= wire::MAX_PACKET as u32
        {
            self.datagrams[train.last as usize].next = index;
            train.last = index;
            train.count += 1;
            train.bytes += len;
            if len < train.size {
                train.takes = CLOSED;
            }
            return;
        }
        *newest = self.trains.len() as u16;
        self.trains.push(Train {
            hop,
            peer,
            size: len,
            count: 1,
            bytes: len,
            tos,
            takes: tos.into(),
            first: index,
            last: index,
        });
    }
}

/// A multiplicative hash: next hops of a cluster differ in their low bits.
#[inline]
fn bucket(hop: NextHop) -> usize {
    (hop.ip.to_bits().wrapping_mul(0x9e37_79b1) >> 26) as usize
}

const BUCKETS: usize = 64;
const NONE: u16 = u16::MAX;
/// No TOS byte.
const CLOSED: u16 = u16::MAX;

/// Datagrams that one batch may hold.
pub(super) const MAX_DATAGRAMS: usize = 1_024;
/// Trains that one batch may hold: messages of one `sendmmsg`.
pub(super) const MAX_TRAINS: usize = 256;

const _: () = assert!(2 * MAX_SEGMENTS <= crate::sys::iovec::MAX_IOVECS);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hop(n: u8) -> Route {
        let hop = NextHop { ip: [10, 211, 55, n].into(), port: 8285 };
        Route { hop, peer: PeerIndex::OVERFLOW }
    }

    fn lens(trains: &Trains) -> Vec<(u8, Vec<u32>)> {
        let lens = |train| trains.datagrams(train).map(Datagram::len).collect();
        trains.trains().iter().map(|train| (train.hop.ip.octets()[3], lens(train))).collect()
    }

    #[test]
    fn a_shorter_datagram_closes_and_a_longer_one_opens() {
        let mut trains = Trains::new();
        for len in [100, 100, 60, 100, 120, 120] {
            trains.push(hop(1), 0, Span::default(), Span::new(0, len), 64);
        }
        assert_eq!(lens(&trains), [(1, vec![100, 100, 60]), (1, vec![100]), (1, vec![120, 120])]);
    }

    #[test]
    fn next_hops_fill_side_by_side() {
        let mut trains = Trains::new();
        for _ in 0..2 {
            for n in [1, 2] {
                trains.push(hop(n), 0, Span::new(0, 20), Span::new(0, 80), 64);
            }
        }
        assert_eq!(lens(&trains), [(1, vec![100, 100]), (2, vec![100, 100])]);
        trains.clear();
        trains.push(hop(2), 0, Span::default(), Span::new(0, 100), 64);
        assert_eq!(lens(&trains), [(2, vec![100])]);
    }

    #[test]
    fn a_train_has_one_tos_byte() {
        let mut trains = Trains::new();
        for tos in [0, 0, 0xb8, 0xb8, 0, 0xb8] {
            trains.push(hop(1), tos, Span::default(), Span::new(0, 100), 64);
        }
        let trains: Vec<_> = trains.trains().iter().map(|train| (train.tos, train.count)).collect();
        assert_eq!(trains, [(0, 2), (0xb8, 2), (0, 1), (0xb8, 1)]);
    }

    #[test]
    fn limits_hold() {
        let mut trains = Trains::new();
        for _ in 0..46 {
            trains.push(hop(1), 0, Span::default(), Span::new(0, 1_472), 64);
        }
        assert_eq!(trains.trains()[0].count, 44);
        assert_eq!(trains.trains()[1].count, 2);
        trains.clear();
        for _ in 0..3 {
            trains.push(hop(1), 0, Span::default(), Span::new(0, 1_472), 1);
        }
        assert_eq!(trains.trains().len(), 3);
    }

    proptest! {
        /// Packets to one next hop leave in the order in which they came, whatever the mixture, and
        /// every train is one the kernel takes.
        #[test]
        fn order_is_kept(
            packets in prop::collection::vec((0u8..80, 0u8..3, 20usize..100), 1..200),
        ) {
            let mut trains = Trains::new();
            for (index, &(n, tos, len)) in packets.iter().enumerate() {
                trains.push(hop(n), tos, Span::default(), Span::new(index, len), 64);
            }
            let mut sent = vec![vec![]; 80];
            for train in trains.trains() {
                let datagrams: Vec<_> = trains.datagrams(train).collect();
                let (last, full) = datagrams.split_last().unwrap();
                prop_assert!(full.iter().all(|datagram| datagram.len() == train.size));
                prop_assert!(last.len() <= train.size);
                prop_assert!(datagrams.len() <= MAX_SEGMENTS);
                prop_assert!(train.bytes as usize <= wire::MAX_PACKET);
                for datagram in datagrams {
                    let (_, tos, _) = packets[datagram.body.start as usize];
                    prop_assert_eq!(tos, train.tos);
                    sent[usize::from(train.hop.ip.octets()[3])].push(datagram.body.start as usize);
                }
            }
            for (n, sent) in sent.iter().enumerate() {
                let came = (0..packets.len()).filter(|&i| usize::from(packets[i].0) == n);
                prop_assert_eq!(sent, &came.collect::<Vec<_>>());
            }
        }
    }
}
