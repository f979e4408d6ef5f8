use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::*;
use crate::sys::udp;

fn pair() -> (UdpSocket, UdpSocket, SocketAddrV4) {
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = UdpSocket::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(address) = to.local_addr().unwrap() else { unreachable!() };
    (from, to, address)
}

/// All datagrams that have arrived, each with its sender.
fn drain(socket: &UdpSocket, want: usize) -> Vec<Vec<u8>> {
    drain_with(socket, want, true)
}

fn drain_with(socket: &UdpSocket, want: usize, batched: bool) -> Vec<Vec<u8>> {
    let mut batch = RecvBatch::new(4, batched);
    let mut got = vec![];
    let start = Instant::now();
    while got.len() < want && start.elapsed() < Duration::from_secs(5) {
        match batch.receive(socket, 4) {
            Ok(count) => {
                assert!(batched || count == 1);
                for index in 0..count {
                    let message = batch.message(index);
                    assert!(!message.truncated);
                    got.extend(message.bytes.chunks(message.segment.max(1)).map(<[u8]>::to_vec));
                }
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    got
}

#[test]
fn messages_are_gathered_from_their_parts() {
    let (from, to, address) = pair();
    let mut batch = SendBatch::new(4, 16, true);
    let mut filling = batch.begin();
    filling.open(address, None, 0);
    filling.push(b"one ");
    filling.push(b"");
    filling.push(b"datagram");
    filling.open(address, None, 0);
    filling.push(b"another");
    assert_eq!(filling.send(&from, 0).unwrap(), 2);
    assert_eq!(filling.send(&from, 1).unwrap(), 1);
    assert_eq!(drain(&to, 3), [&b"one datagram"[..], b"another", b"another"]);
}

#[test]
fn a_run_is_cut_by_the_kernel_and_comes_back_as_a_run() {
    let (from, to, address) = pair();
    if !udp::has_segment(&from) {
        eprintln!("SKIPPED: this kernel has no UDP_SEGMENT");
        return;
    }
    let payload: Vec<u8> = (0..44 * 1_400 - 7).map(|i| (i / 1_400) as u8).collect();
    for gro in [false, true] {
        udp::set_gro(&to, gro).unwrap();
        let mut batch = SendBatch::new(1, 128, true);
        let mut filling = batch.begin();
        filling.open(address, Some(1_400), 0);
        payload.chunks(1_000).for_each(|part| filling.push(part));
        assert_eq!(filling.send(&from, 0).unwrap(), 1);
        let got = drain(&to, 44);
        assert_eq!(got, payload.chunks(1_400).map(<[u8]>::to_vec).collect::<Vec<_>>(), "gro {gro}");
    }
}

/// The TOS byte of the next datagram.
fn received_tos(socket: &socket2::Socket) -> u8 {
    let mut payload = [MaybeUninit::new(0); 100];
    let mut buffers = [socket2::MaybeUninitSlice::new(&mut payload)];
    let mut control = [MaybeUninit::new(0); 64];
    let mut header =
        socket2::MsgHdrMut::new().with_buffers(&mut buffers).with_control(&mut control);
    socket.recvmsg(&mut header, 0).unwrap();
    let len = header.control_len();
    // SAFETY: every byte was set above.
    let control = control.map(|byte| unsafe { byte.assume_init() });
    cmsg::find(&control[..len], libc::IPPROTO_IP, libc::IP_TOS).unwrap()[0]
}

/// The TOS byte of each message, with a run that the kernel cuts and without.
#[test]
fn each_message_has_its_tos_byte() {
    let (from, to, address) = pair();
    let to = socket2::Socket::from(to);
    to.set_recv_tos_v4(true).unwrap();
    to.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    udp::set_tos(&from, 0x20).unwrap();
    let mut batch = SendBatch::new(4, 16, true);
    let mut filling = batch.begin();
    let runs = udp::has_segment(&from);
    for (segment, tos) in [(None, 0), (None, 0xb8), (Some(4), 0x88), (Some(4), 0)] {
        filling.open(address, segment.filter(|_| runs), tos);
        filling.push(b"aaaabb");
    }
    assert_eq!(filling.send(&from, 0).unwrap(), 4);
    let one = |tos| if runs { vec![tos, tos] } else { vec![tos] };
    for tos in [vec![0x20, 0xb8], one(0x88), one(0x20)].concat() {
        assert_eq!(received_tos(&to), tos);
    }
}

#[test]
fn without_the_batched_calls_messages_pass_one_by_one() {
    let (from, to, address) = pair();
    assert!(probe(&from).is_ok(), "this kernel has both calls");
    let mut batch = SendBatch::new(4, 16, false);
    let mut filling = batch.begin();
    for part in [&b"one"[..], b"two", b"three"] {
        filling.open(address, None, 0);
        filling.push(part);
    }
    for first in 0..3 {
        assert_eq!(filling.send(&from, first).unwrap(), 1);
    }
    assert_eq!(drain_with(&to, 3, false), [&b"one"[..], b"two", b"three"]);
    if udp::has_segment(&from) && udp::set_gro(&to, true).is_ok() {
        let mut filling = batch.begin();
        filling.open(address, Some(4), 0);
        filling.push(b"aaaabbbbcc");
        assert_eq!(filling.send(&from, 0).unwrap(), 1);
        assert_eq!(drain_with(&to, 3, false), [&b"aaaa"[..], b"bbbb", b"cc"]);
    }
}

#[test]
fn room_is_counted() {
    let (_, _, address) = pair();
    let mut batch = SendBatch::new(2, 3, true);
    let mut filling = batch.begin();
    assert!(filling.is_empty() && filling.has_room(3) && !filling.has_room(4));
    filling.open(address, None, 0);
    filling.push(b"x");
    assert!(filling.has_room(2) && !filling.has_room(3));
    filling.open(address, None, 0);
    assert!(!filling.has_room(0));
    assert_eq!(filling.len(), 2);
}

#[test]
fn an_error_is_told_at_its_message() {
    let (from, _, address) = pair();
    let nowhere = SocketAddrV4::new([255, 255, 255, 255].into(), 9);
    let mut batch = SendBatch::new(2, 2, true);
    let mut filling = batch.begin();
    filling.open(address, None, 0);
    filling.push(b"x");
    filling.open(nowhere, None, 0);
    filling.push(b"y");
    assert_eq!(filling.send(&from, 0).unwrap(), 1);
    assert_eq!(filling.send(&from, 1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn control_messages_that_are_not_well_formed_give_nothing() {
    assert_eq!(gro_segment(&[]), None);
    assert_eq!(gro_segment(&[0xff; 24]), None);
    assert_eq!(gro_segment(&[0; 24]), None);
    let mut control = cmsg::Control::EMPTY;
    let len = control.set(Some(1_472), 0xb8);
    assert_eq!(control.get(len), (Some(1_472), 0xb8));
    // A UDP_SEGMENT message is not a UDP_GRO message.
    assert_eq!(gro_segment(&control.0[..len]), None);
    for cut in 0..len {
        gro_segment(&control.0[..cut]);
    }
}
