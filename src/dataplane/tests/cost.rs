//! What one packet costs, in instructions: the test binary runs itself under valgrind's callgrind, whose
//! count does not depend on what else the machine does.

use std::process::Command;

use super::egress::Bench;

/// Packets per batch, each to a host of its own.
const PACKETS: u32 = 64;

/// Batches that are counted.
const BATCHES: u32 = 20;

/// The number of instructions of one packet, if `blocked` hosts get single datagrams only.
fn instructions_per_packet(blocked: u32) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*single_packets*")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "dataplane::tests::cost::workload", "--ignored"])
        .env("BLOCKED", blocked.to_string())
        .output()
        .expect("valgrind, of the Debian package of that name");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let count = log.rsplit_once("Collected : ").expect("a count").1;
    let count: u64 = count.split_whitespace().next().unwrap().parse().unwrap();
    assert!(count > 0, "{log}");
    count / u64::from(BATCHES * PACKETS)
}

#[test]
fn a_packet_costs_the_same_however_many_other_hosts_are_behind_a_small_mtu() {
    let [none, many] = [0, 1_000].map(instructions_per_packet);
    println!("instructions per packet: {none}, with 1,000 blocked hosts {many}");
    assert!(many.abs_diff(none) * 20 <= none, "{none}, with blocked hosts {many}");
}

#[test]
#[ignore = "a workload of the test above"]
fn workload() {
    let blocked = std::env::var("BLOCKED").expect("a number").parse().unwrap();
    let mut bench = Bench::among(1_100, blocked);
    for _ in 0..BATCHES {
        bench.single_packets(1_000..1_000 + PACKETS);
    }
}
