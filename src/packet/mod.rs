//! Packet views, checksums, segmenting, coalescing and the wire rules: pure, `no_std`, no allocation.
