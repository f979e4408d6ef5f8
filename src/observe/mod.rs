//! What one sees of the daemon from outside: health, the status socket, what is told there.

pub mod capture;
pub mod client;
pub mod health;
pub mod http;
pub mod metrics;
pub mod pcapng;
pub mod protocol;
pub mod server;
