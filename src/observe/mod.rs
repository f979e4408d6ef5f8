//! Metrics, health and the status socket.
