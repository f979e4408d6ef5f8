//! How a packet thread finds out that there is work: it looks, sleeps, and is woken up.

mod pace;
mod recent;
mod spin;
mod turn;
mod waker;

pub(super) use pace::Pace;
pub(super) use recent::Lately;
pub(super) use spin::{BULK_LASTS, Idle};
pub(super) use turn::Turn;
pub(super) use waker::{Bell, Ready};
