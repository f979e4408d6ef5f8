//! The workers that carry packets: egress, ingress, what the kernel agreed to, counters.
