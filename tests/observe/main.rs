//! What an observer sees of real daemons with real traffic, in network namespaces.
//!
//! They need root and run one after the other; without root each says `SKIPPED` and passes, unless
//! `FLANNEL_UDP_REQUIRE_ROOT` is set.
#![allow(unreachable_pub, reason = "a test program has no outside")]

#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/support/mod.rs"]
mod support;

mod bugreport;
mod capture;
mod check_flag;
mod checks;
mod cluster;
mod doctor;
mod doctor_lab;
mod endpoints;
mod firewalls;
mod inspect;
mod levels;
mod local_store;
mod metrics;
mod operations;
mod overlap;
mod path_mtu;
mod peers;
mod ping;
mod reach;
mod refusing_store;
mod remedies;
mod routing;
#[cfg(feature = "top")]
mod top;
mod typed;
mod upkeep;
mod watch;
