//! End-to-end tests: real daemons, real TUN devices, real etcd, in network namespaces.
//!
//! They need root and run one after the other. `make test` runs them all; without root each says
//! `SKIPPED` and passes, unless `FLANNEL_UDP_REQUIRE_ROOT` is set. `FLANNEL_UDP_LONG=1` chooses the
//! long form of the tests that have one: `make test-long`. `FLANNEL_UDP_PROGRAM` names another program to
//! test, such as the static one: `make test-static`.
#![allow(unreachable_pub, reason = "a test program has no outside")]

mod support;
mod threads;

mod allocation;
mod captured;
mod containers;
mod corruption;
mod decision;
mod degrade;
mod device_node;
mod ecn;
mod host;
mod icmp;
mod idle;
mod junk;
mod log;
mod matrix;
mod membership;
mod mtu;
mod names;
mod outage;
mod privileges;
mod reroute;
mod restart;
mod steady;
mod underlay_tos;
mod wire;
mod workloads;
