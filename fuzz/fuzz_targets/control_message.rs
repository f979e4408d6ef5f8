//! Control messages as `recvmsg` leaves them.
#![no_main]
use flannel_udp::sys::mmsg::gro_segment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_ne!(gro_segment(bytes), Some(0));
});
