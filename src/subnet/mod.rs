//! Network config, leases, the registry (etcd or files), reconciliation of the route table.
