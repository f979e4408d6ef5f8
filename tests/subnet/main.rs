//! The subnet manager against real etcd servers and real directories. Needs `etcd` and `etcdctl`
//! (Debian: `etcd-server`, `etcd-client`), no privileges; everything listens on loopback.
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
