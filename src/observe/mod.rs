//! How the daemon is observed: status socket and its language, health checks, metrics, captures.

pub mod capture;
pub mod client;
pub mod health;
pub mod http;
pub(crate) mod http_client;
pub mod metrics;
pub mod pcapng;
pub mod protocol;
pub mod server;
pub mod warnings;
