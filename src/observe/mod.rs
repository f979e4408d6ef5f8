//! Metrics, health and the status socket.

pub mod health;
