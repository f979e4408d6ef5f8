//! `virtio_net_hdr`: decoding and encoding give the same bytes, but for flags that are not kept.
#![no_main]
use flannel_packet::vnet::VnetHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; 10]| {
    match VnetHeader::decode(&bytes) {
        Ok(header) => {
            let again = header.encode();
            assert_eq!(again[0], bytes[0] & 3);
            assert_eq!(again[1..], bytes[1..]);
            let _ = header.to_string();
        }
        Err(error) => assert_eq!(error.0, bytes[1]),
    }
});
