//! What supervisors see of the daemon.

pub mod health;
