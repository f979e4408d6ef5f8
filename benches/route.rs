//! The lookup that every packet makes: its cost shall not depend on the number of routes.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flannel_udp::route::{Cidr, NextHop, table};

/// Destinations looked up in one iteration.
const DESTINATIONS: usize = 1_024;

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route lookup");
    group.throughput(Throughput::Elements(DESTINATIONS as u64));
    for routes in [10u32, 1_000, 65_536] {
        let network = Cidr::new(Ipv4Addr::new(10, 0, 0, 0), 8);
        let (mut writer, table) = table(network, 24);
        for n in 0..routes {
            let subnet = Cidr::new(Ipv4Addr::from_bits(network.network().to_bits() + (n << 8)), 24);
            let hop = NextHop { ip: Ipv4Addr::from_bits(0xac10_0000 + n), port: 8285 };
            writer.insert(subnet, hop).expect("the subnet lies in the network");
        }
        // Spread over the subnets in an order that no prefetcher guesses.
        let destinations: Vec<_> = (0..DESTINATIONS as u32)
            .map(|i| i.wrapping_mul(0x9e37_79b1) % routes)
            .map(|n| Ipv4Addr::from_bits(network.network().to_bits() + (n << 8) + 2))
            .collect();
        group.bench_with_input(BenchmarkId::from_parameter(routes), &destinations, |b, all| {
            b.iter(|| all.iter().filter_map(|dst| table.lookup(black_box(*dst))).count());
        });
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
