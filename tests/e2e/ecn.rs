//! TCP with accurate ECN (RFC 9768), whose segments all carry bits of a counter.

use flannel_udp::packet::tcp::{self, Flags};
use flannel_udp::packet::{ipv4, protocol};
use flannel_udp::sys::mmsg::SendBatch;

use crate::support::peer::{self, PlainPeer};
use crate::support::{accounting, exclusive, net, wait_for};

/// The counter starts at 5, so that each segment has AE and ECE until the first mark: a run of them is
/// written to the TUN device as a few super-packets.
#[test]
fn segments_with_accurate_ecn_are_joined() {
    let Some(_exclusive) = exclusive() else { return };
    let (mut lab, peer) = PlainPeer::with_lab(&[]);
    let flannel0 = lab.subnet(0).network();
    let payload = [7; 1_000];
    let run: Vec<u8> = (0..SEGMENTS)
        .flat_map(|number| {
            let len = (tcp::Header::default().header_len() + payload.len()) as u16;
            let ip = ipv4::Header::new(protocol::TCP, peer::INSIDE, flannel0, len);
            let ip = ipv4::Header { id: number, ..ip };
            let tcp = tcp::Header {
                source_port: 7_000,
                destination_port: 7_000,
                sequence: u32::from(number) * payload.len() as u32,
                reserved: 1,
                flags: Flags::ACK | Flags::ECE,
                window: 500,
                ..tcp::Header::default()
            };
            let tcp = tcp.with_checksum(ip.pseudo_header(), &payload);
            let mut packet = vec![0; ip.total_len.into()];
            let rest = ip.emit(&mut packet).expect("room");
            tcp.emit(rest).expect("room").copy_from_slice(&payload);
            packet
        })
        .collect();
    let before = accounting::balanced(&mut lab, 0).ingress;
    let mut batch = SendBatch::new(1, 1, true);
    let mut message = batch.begin();
    let segment = run.len() / usize::from(SEGMENTS);
    message.open(peer.daemon(), Some(segment as u16), 0);
    message.push(&run);
    message.send(&peer.socket, 0).expect("sending a run");
    let mut after = before.clone();
    wait_for("the run to arrive", net::TIMEOUT, || {
        after = accounting::balanced(&mut lab, 0).ingress;
        after.carried >= before.carried + u64::from(SEGMENTS)
    });
    let writes = after.units - before.units;
    assert!(writes <= 4, "{SEGMENTS} segments in {writes} writes");
}

const SEGMENTS: u16 = 40;
