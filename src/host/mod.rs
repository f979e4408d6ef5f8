//! What the daemon asks of its operating system: interface, flannel0, firewall rules, files, systemd.
