use super::super::ipv4::Ipv4;
use super::super::samples::{self, TcpSample};
use super::*;

#[test]
fn reads_every_field() {
    let packet = TcpSample {
        ports: (50_000, 443),
        id: 1,
        sequence: 0xffff_fffe,
        acknowledgment: 0x0102_0304,
        flags: 0x18,
        options: samples::hex("0101080a000000010000000f"),
        payload: b"data".to_vec(),
    }
    .packet();
    let ip = Ipv4::parse(&packet[..]).unwrap();
    let tcp = Tcp::parse(ip.payload()).unwrap();
    assert_eq!((tcp.source_port(), tcp.destination_port()), (50_000, 443));
    assert_eq!((tcp.sequence(), tcp.acknowledgment()), (0xffff_fffe, 0x0102_0304));
    assert_eq!((tcp.header_len(), tcp.reserved(), tcp.window()), (32, 0, 502));
    assert_eq!((tcp.flags(), tcp.urgent_pointer()), (Flags::ACK | Flags::PSH, 0));
    assert_eq!(tcp.payload(), b"data");
    assert!(tcp.verify_checksum(ip.pseudo_header()));
    assert!(!tcp.verify_checksum(ip.pseudo_header().add_u16(1)));
    assert_eq!(
        tcp.to_string(),
        "Flags [P.], seq 4294967294:2, ack 16909060, win 502, \
         options [nop,nop,TS val 1 ecr 15], length 4"
    );
    assert_eq!(tcp.checksum(), u16::from_be_bytes([packet[36], packet[37]]));
}

#[test]
fn refuses_bad_header_lengths() {
    let mut bytes = [0; 24];
    assert_eq!(Tcp::parse(&bytes[..19]).err(), Some(Malformed::TooShort));
    bytes[12] = 0x40;
    assert_eq!(Tcp::parse(bytes).err(), Some(Malformed::BadHeaderLength));
    bytes[12] = 0x70;
    assert_eq!(Tcp::parse(bytes).err(), Some(Malformed::BadHeaderLength));
    bytes[12] = 0x60;
    assert_eq!(Tcp::parse(bytes).unwrap().option_bytes().len(), 4);
}

#[test]
fn prints_a_handshake() {
    let syn = samples::hex(
        "d431 0050 00000007 00000000 a0c2 faf0 0000 0000 020405b4 0402080a00000010 00000000 01030307",
    );
    let syn = Tcp::parse(syn).unwrap();
    assert_eq!(
        syn.to_string(),
        "Flags [SEW], seq 7, win 64240, \
         options [mss 1460,sackOK,TS val 16 ecr 0,nop,wscale 7], length 0"
    );
    assert_eq!(syn.options().count(), 5);
    let mut urgent = samples::hex("0001 0002 00000007 00000008 5021 0100 0000 0009");
    urgent[13] = 0x20;
    assert_eq!(Tcp::parse(&urgent).unwrap().to_string(), "Flags [U], win 256, urg 9, length 0");
    urgent[13] = 0;
    assert_eq!(Tcp::parse(&urgent).unwrap().to_string(), "Flags [none], win 256, length 0");
}

#[test]
fn options_end_where_they_should() {
    let list = |digits: &str| Options::new(&samples::hex(digits)).to_string();
    assert_eq!(list("0101050a0000000100000002 00"), "nop,nop,sack 1 {1:2},eol");
    assert_eq!(list("00 0204 05b4"), "eol");
    assert_eq!(list("01 08"), "nop,[bad opt]");
    assert_eq!(list("02"), "[bad opt]");
    assert_eq!(list("0200"), "[bad opt]");
    assert_eq!(list("0201"), "[bad opt]");
    assert_eq!(list("020405"), "[bad opt]");
    // A known kind with a length that it does not have.
    assert_eq!(list("020305 1e021e04abcd"), "unknown-2 0x05,unknown-30,unknown-30 0xabcd");
    assert_eq!(list("030309"), "wscale 9");
}

#[test]
fn flags_are_bits() {
    assert!((Flags::SYN | Flags::ACK).contains(Flags::ACK));
    assert!(!Flags::SYN.contains(Flags::SYN | Flags::ACK));
    assert!(!(!Flags::PSH).intersects(Flags::PSH));
    assert_eq!(Flags(0xff).to_string(), "FSRP.UEW");
}
