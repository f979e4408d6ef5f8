//! Wall time of the packet library and of others on the same inputs: `cargo bench --bench packet`.

mod inputs;
mod ops;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for mut operation in ops::all() {
        let mut group = criterion.benchmark_group(&operation.group);
        group.throughput(match operation.work {
            ops::Work::Bytes(bytes) => Throughput::Bytes(bytes),
            ops::Work::Packets(packets) => Throughput::Elements(packets),
        });
        group.bench_function(operation.library, |bencher| match &mut operation.reset {
            None => bencher.iter(&mut operation.run),
            Some(reset) => bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    reset();
                    let begin = Instant::now();
                    (operation.run)();
                    total += begin.elapsed();
                }
                total
            }),
        });
        group.finish();
    }
    criterion.final_summary();
}
