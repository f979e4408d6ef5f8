//! How a packet thread learns of work: it polls its sources while that pays, and sleeps otherwise.
//!
//! A **source** is a TUN queue or the UDP socket of a worker. A **turn** is one pass over a source; it
//! carries at most one batch.

mod pattern;
mod recent;
mod spin;
mod turn;
mod waker;

pub(super) use pattern::ArrivalPattern;
pub(super) use recent::RecentEvent;
pub(super) use spin::{BULK_WINDOW, BusyPoll};
pub(super) use turn::Turn;
pub(super) use waker::{Ready, Waker};
