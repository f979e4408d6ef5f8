//! ICMP errors to the senders of packets that were not sent.

use std::sync::Arc;

use crate::dataplane::counters::DirectionCounters;
use crate::dataplane::icmp::{IcmpErrors, Reply};
use crate::dataplane::syscalls::PacketQueue;
use crate::dataplane::tap::Probe;
use crate::packet::icmp::ErrorKind;
use crate::packet::vnet::VnetHeader;
use crate::sys::iovec::GatherBuffer;

/// Writes ICMP errors to a TUN queue.
pub(super) struct ErrorWriter<Q> {
    pub(super) queue: Arc<Q>,
    /// Bytes before each packet: the `virtio_net_hdr`, if the device has one.
    pub(super) prefix: usize,
    pub(super) icmp: IcmpErrors,
    pub(super) parts: GatherBuffer,
}

impl<Q: PacketQueue> ErrorWriter<Q> {
    /// Writes the error about `offender`, unless it is held back.
    #[cold]
    pub(super) fn answer(
        &mut self,
        kind: ErrorKind,
        offender: &[u8],
        counters: &DirectionCounters,
        probe: &mut Probe,
    ) {
        match self.icmp.reply(kind, offender) {
            Reply::Error(error) => {
                let header = VnetHeader::NONE.encode();
                let mut parts = self.parts.begin();
                parts.push(&header[..self.prefix]);
                parts.push(error);
                if self.queue.write(&parts).is_ok() {
                    counters.icmp.add(1);
                    probe.icmp_sent(None, error);
                }
            }
            Reply::Limited => counters.icmp_limited.add(1),
            Reply::Forbidden => {}
        }
    }
}
