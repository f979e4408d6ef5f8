//! Two or more hosts on one machine, in network namespaces: demo, benchmark and tests.
