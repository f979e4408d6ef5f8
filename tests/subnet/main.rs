//! The subnet manager against real etcd servers and real directories. Needs `etcd`, `etcdctl` and
//! `openssl` (Debian: `etcd-server`, `etcd-client`, `openssl`), no privileges; everything listens on loopback.
#![allow(missing_docs)]

mod contents;
mod doctor;
mod faults;
mod holders;
mod manager;
mod model;
mod secure;
mod support;
mod test_store;
mod tls;
