//! The TOS byte of the datagrams between hosts (`--outer-tos`).

use socket2::SockRef;

use crate::support::peer::{self, PlainPeer};
use crate::support::test_lab::TestLab;
use crate::support::{accounting, exclusive, flow, net, raw};

/// With each value of the flag, datagrams whose own TOS byte is one of [`INNER`]: that of the outer header,
/// whose ECN bits are zero, while the inner packet keeps all of its bits.
#[test]
fn the_outer_header_has_the_dscp_that_was_asked_for() {
    let Some(_exclusive) = exclusive() else { return };
    for (flags, outer) in [
        (&[][..], [0; 4]),
        (&["--outer-tos=0xb8"], [0xb8; 4]),
        (&["--outer-tos=inherit"], [0, 0xb8, 0x20, 0]),
        (&["--outer-tos=inherit", "--offload=off"], [0, 0xb8, 0x20, 0]),
    ] {
        let (mut lab, peer) = PlainPeer::with_lab(flags);
        // A train would otherwise arrive at the raw socket as one packet.
        let cut = ["-K", "eth0", "tx-udp-segmentation", "off"];
        TestLab::run(lab.host(0).netns(), "ethtool", &cut);
        let datagrams = net::raw_receiver(lab.host(1).netns(), raw::UDP);
        let here = lab.endpoint(0);
        let sender = net::udp(here.netns, here.address);
        for number in 0..COUNT {
            // Runs of one to four datagrams, so that trains end and begin.
            if number % 4 < 2 {
                SockRef::from(&sender).set_tos_v4(INNER[kind(number)].into()).expect("a TOS byte");
            }
            sender.send_to(&flow::packet(number, 300), (peer::INSIDE, 7000)).expect("sending");
        }
        let mut next = 0;
        let mut tos = 0;
        while next < COUNT {
            let packet = net::receive_raw(&datagrams);
            let inner = &packet[28..];
            if inner[9] != raw::UDP || inner[22..24] != 7000u16.to_be_bytes() {
                continue;
            }
            assert_eq!(flow::number_in(&inner[28..]), Some(next), "{flags:?}: the next in order");
            if next % 4 < 2 {
                tos = kind(next);
            }
            assert_eq!(inner[1], INNER[tos], "{flags:?}: the inner TOS byte of packet {next}");
            assert_eq!(packet[1], outer[tos], "{flags:?}: the outer TOS byte of packet {next}");
            next += 1;
        }
        drop(peer);
        accounting::check_balance(&mut lab);
    }
}

/// Which of [`INNER`] datagram `number` is sent with.
fn kind(number: u64) -> usize {
    (number * 7 / 3 % 4) as usize
}

/// No DSCP; DSCP 46 with CE; DSCP 8 with ECT(0); no DSCP with ECT(1).
const INNER: [u8; 4] = [0, 0xbb, 0x22, 0x01];
/// What fits the buffer of a raw socket.
const COUNT: u64 = 64;
