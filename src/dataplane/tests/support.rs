//! A kernel that answers as a test's script says.

#![allow(
    clippy::arc_with_non_send_sync,
    reason = "the data path takes `Arc`; tests have one thread"
)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use etherparse::PacketBuilder;

use crate::dataplane::syscalls::{MessageSocket, PacketQueue};
use crate::dataplane::tap::Tap;
use crate::dataplane::{CheckMode, Config, Offloads, OuterTos, ThreadInit, Threads};
use crate::packet::vnet::{GsoType, VnetHeader};
use crate::route::{NextHop, RouteTable};
use crate::sys::iovec::Gather;
use crate::sys::mmsg::{Filling, Message};

/// What a script says to one message or packet: `Some(errno)` refuses it.
type Refuse<T> = Box<dyn Fn(&T) -> Option<i32>>;

/// A TUN queue: gives `to_read`, and keeps what is written and not refused.
pub(in crate::dataplane) struct ScriptedQueue {
    pub(in crate::dataplane) to_read: RefCell<VecDeque<Vec<u8>>>,
    pub(in crate::dataplane) written: RefCell<Vec<Vec<u8>>>,
    refuse: Refuse<[u8]>,
}

impl ScriptedQueue {
    pub(in crate::dataplane) fn new(refuse: impl Fn(&[u8]) -> Option<i32> + 'static) -> Arc<Self> {
        Arc::new(Self {
            to_read: RefCell::default(),
            written: RefCell::default(),
            refuse: Box::new(refuse),
        })
    }

    /// Puts a packet, with the kernel's header before it, where it is read next.
    pub(in crate::dataplane) fn holds(&self, vnet: VnetHeader, packet: &[u8]) {
        let read = [&vnet.encode(), packet].concat();
        self.to_read.borrow_mut().push_back(read);
    }
}

impl PacketQueue for ScriptedQueue {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(read) = self.to_read.borrow_mut().pop_front() else {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        };
        buffer[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }

    fn write(&self, parts: &Gather<'_, '_>) -> io::Result<usize> {
        let packet = parts.to_vec();
        match (self.refuse)(&packet) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => {
                let len = packet.len();
                self.written.borrow_mut().push(packet);
                Ok(len)
            }
        }
    }
}

/// A UDP socket that keeps what is sent and not refused.
pub(in crate::dataplane) struct ScriptedSocket {
    pub(in crate::dataplane) sent: RefCell<Vec<Message>>,
    pub(in crate::dataplane) calls: Cell<usize>,
    /// Messages that one call takes at most.
    per_call: usize,
    refuse: Refuse<Message>,
}

impl ScriptedSocket {
    pub(in crate::dataplane) fn new(
        per_call: usize,
        refuse: impl Fn(&Message) -> Option<i32> + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            sent: RefCell::default(),
            calls: Cell::new(0),
            per_call,
            refuse: Box::new(refuse),
        })
    }
}

impl MessageSocket for ScriptedSocket {
    /// As `sendmmsg(2)`: the error of a message is returned only when that message is the first of
    /// a call.
    fn send(&self, messages: &mut Filling<'_, '_>, first: usize) -> io::Result<usize> {
        self.calls.set(self.calls.get() + 1);
        let end = messages.len().min(first.saturating_add(self.per_call));
        for index in first..end {
            let message = messages.message(index);
            match (self.refuse)(&message) {
                Some(errno) if index == first => return Err(io::Error::from_raw_os_error(errno)),
                Some(_) => return Ok(index - first),
                None => self.sent.borrow_mut().push(message),
            }
        }
        Ok(end - first)
    }
}

/// An overlay of 10.0.0.0/16 in which this host has 10.0.1.0/24.
pub(in crate::dataplane) fn config(offloads: Offloads) -> Config {
    Config {
        tun_name: "flannel%d".to_owned(),
        address: Ipv4Addr::new(10, 0, 1, 0),
        network: "10.0.0.0/16".parse().unwrap(),
        subnet: "10.0.1.0/24".parse().unwrap(),
        mtu: MTU.into(),
        bind: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8285),
        outer_tos: OuterTos::default(),
        workers: 1,
        threads: Threads::One,
        offloads,
        spin: Duration::ZERO,
        source_check: CheckMode::Off,
        destination_check: CheckMode::Off,
        tap: Tap::default(),
        on_thread_start: ThreadInit::default(),
    }
}

pub(in crate::dataplane) const MTU: u16 = 1_472;

/// A route table in which each third octet leads to one next hop.
pub(in crate::dataplane) fn routes(peers: &[(u8, NextHop)]) -> Arc<RouteTable> {
    let (mut writer, table) = crate::route::table("10.0.0.0/16".parse().unwrap(), 24);
    for (octet, hop) in peers {
        writer.insert(format!("10.0.{octet}.0/24").parse().unwrap(), *hop).unwrap();
    }
    table
}

pub(in crate::dataplane) fn udp(
    source: [u8; 4],
    destination: [u8; 4],
    ttl: u8,
    payload: usize,
) -> Vec<u8> {
    let mut packet = vec![];
    PacketBuilder::ipv4(source, destination, ttl)
        .udp(4_000, 53)
        .write(&mut packet, &vec![7; payload])
        .unwrap();
    packet
}

pub(in crate::dataplane) fn tcp(
    source: [u8; 4],
    destination: [u8; 4],
    seq: u32,
    payload: usize,
) -> Vec<u8> {
    let mut packet = vec![];
    PacketBuilder::ipv4(source, destination, 64)
        .tcp(4_000, 80, seq, 1_000)
        .ack(1)
        .write(&mut packet, &vec![7; payload])
        .unwrap();
    packet
}

/// The header with which the kernel hands over a TCP super-packet with segments of `size` bytes.
pub(in crate::dataplane) fn tcp_super_packet(size: u16) -> VnetHeader {
    VnetHeader {
        needs_csum: true,
        gso: GsoType::TcpV4,
        hdr_len: 40,
        gso_size: size,
        csum_start: 20,
        csum_offset: 16,
        ..VnetHeader::NONE
    }
}
