//! `subnet.env` as any earlier run may have left it.
#![no_main]
use std::path::PathBuf;
use std::sync::LazyLock;

use flannel_udp::host::subnet_file::read_previous;
use libfuzzer_sys::fuzz_target;

/// Where the bytes are put for the reader; removed with the directory at exit of the system.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = tempfile::Builder::new().prefix("flannel-udp-fuzz").tempdir().unwrap();
    dir.keep().join("subnet.env")
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).unwrap();
    let previous = read_previous(&FILE);
    if let Some(subnet) = previous.subnet {
        assert_eq!(subnet.to_string().parse(), Ok(subnet));
    }
});
