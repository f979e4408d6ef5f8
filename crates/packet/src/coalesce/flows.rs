//! The flows of a batch.

use super::super::ipv4::Ipv4;
use super::super::protocol;
use super::NO_GROUP;
use super::candidate::{Candidate, Key};

/// A small hash table. Counting the batches empties it without touching its slots.
#[derive(Clone)]
pub(super) struct Flows<const FLOWS: usize> {
    slots: [Flow; FLOWS],
    batch: u64,
    /// Stands for a slot beyond the table; no flow is ever found in it.
    spare: Flow,
}

/// A flow and its newest group.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    key: Key,
    /// Number of the batch in which the flow was last seen; a slot of an earlier batch is free.
    batch: u64,
    /// [`NO_GROUP`] if it is closed.
    pub(super) group: u16,
    pub(super) shape: Shape,
}

/// The fields that the next packet must have to follow the last one of a group.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    ip_word: u32,
    sequence: u32,
    acknowledgment: u32,
    /// It has the length of the header in it, which UDP's is always the same.
    tcp_word: u32,
    /// Of the last packet.
    id: u16,
    /// By how much the identification grows: known from the second packet on.
    id_step: u16,
    options: [u8; MAX_OPTIONS],
}

impl<const FLOWS: usize> Flows<FLOWS> {
    pub(super) const fn new() -> Self {
        Self { slots: [Flow::FREE; FLOWS], batch: 1, spare: Flow::FREE }
    }

    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.batch += 1;
    }

    /// The slot of this flow, which may be new.
    ///
    /// A slot is not freed within a batch, so the first free one ends the search. Where there is
    /// none, the flow takes the place of another, whose group is thereby closed.
    #[inline(always)]
    pub(super) fn find(&mut self, key: Key) -> usize {
        let home = key.hash() & (FLOWS - 1);
        for probe in 0..PROBES {
            let slot = (home + probe) & (FLOWS - 1);
            let Some(flow) = self.slots.get_mut(slot) else { break };
            if flow.batch != self.batch {
                (flow.key, flow.batch, flow.group) = (key, self.batch, NO_GROUP);
                return slot;
            }
            if flow.key == key {
                return slot;
            }
        }
        if let Some(flow) = self.slots.get_mut(home) {
            (flow.key, flow.group) = (key, NO_GROUP);
        }
        home
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Flow {
        self.slots.get_mut(slot).unwrap_or(&mut self.spare)
    }

    #[inline(always)]
    pub(super) fn close(&mut self, slot: usize) {
        self.get_mut(slot).group = NO_GROUP;
    }

    /// Closes the groups of all flows from one address to another.
    pub(super) fn close_between(&mut self, addresses: u64) {
        for flow in &mut self.slots {
            if flow.key.addresses == addresses {
                flow.group = NO_GROUP;
            }
        }
    }
}

impl Flow {
    const FREE: Self = Self {
        key: Key { addresses: 0, ports: 0 },
        batch: 0,
        group: NO_GROUP,
        shape: Shape {
            ip_word: 0,
            sequence: 0,
            acknowledgment: 0,
            tcp_word: 0,
            id: 0,
            id_step: 0,
            options: [0; MAX_OPTIONS],
        },
    };
}

impl Key {
    #[inline(always)]
    fn hash(self) -> usize {
        let mixed = (self.addresses ^ self.ports.rotate_left(24)).wrapping_mul(GOLDEN);
        (mixed >> 40) as usize
    }
}

impl Shape {
    /// The shape that a group's first packet gives it.
    #[inline(always)]
    pub(super) fn begin(&mut self, first: &Candidate, packet: &Ipv4<&[u8]>) {
        self.ip_word = first.ip_word;
        self.sequence = first.sequence.wrapping_add(u32::from(first.payload_len));
        self.acknowledgment = first.acknowledgment;
        self.tcp_word = first.tcp_word;
        self.id = first.id;
        let options = first.options(packet);
        if let Some(kept) = self.options.get_mut(..options.len()) {
            kept.copy_from_slice(options);
        }
    }

    /// Whether a packet may follow the `count` packets of the group.
    #[inline(always)]
    pub(super) fn is_followed_by(
        &self,
        count: usize,
        next: &Candidate,
        packet: &Ipv4<&[u8]>,
    ) -> bool {
        let step = next.id.wrapping_sub(self.id);
        let id_follows = if count == 1 {
            step == 1 || (step == 0 && self.ip_word & DONT_FRAGMENT != 0)
        } else {
            step == self.id_step
        };
        // UDP has 0 for every field that it lacks, except for a sequence, which must not matter.
        let sequence = next.protocol != protocol::TCP || next.sequence == self.sequence;
        id_follows
            && sequence
            && next.ip_word == self.ip_word
            && next.acknowledgment == self.acknowledgment
            && next.tcp_word == self.tcp_word
            && {
                let options = next.options(packet);
                options.is_empty() || self.options.get(..options.len()) == Some(options)
            }
    }

    /// Moves on to the packet that was added.
    #[inline(always)]
    pub(super) fn advance(&mut self, count: usize, next: &Candidate) {
        if count == 1 {
            self.id_step = next.id.wrapping_sub(self.id);
        }
        self.id = next.id;
        self.sequence = next.sequence.wrapping_add(u32::from(next.payload_len));
    }
}

/// TCP's header length is four bits: 60 bytes, of which 20 are no options.
const MAX_OPTIONS: usize = 40;
/// In [`Candidate::ip_word`].
const DONT_FRAGMENT: u32 = 0x4000;
/// Slots that are probed before one is taken over.
const PROBES: usize = 8;
/// 2^64 divided by the golden ratio: spreads keys over the high bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
