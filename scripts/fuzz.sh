#!/usr/bin/env bash
# Fuzzes every target, or the named ones, then prints how much of the packet library the inputs reach.
#
#   FUZZ_SECONDS=60 scripts/fuzz.sh [TARGET]...
#
#   FUZZ_SECONDS   seconds for each target (default 60)
#   FUZZ_TOTAL     seconds for all together, shared out evenly, if that gives each less
#   FUZZ_DAEMON=0  leaves out the targets that need the daemon, whose build takes minutes
#   FUZZ_COVERAGE  least per cent of the lines of crates/packet/src (default 95; 0: do not measure)
#
# Works with the stable compiler: RUSTC_BOOTSTRAP=1 allows the instrumentation. The seeds in
# fuzz/corpus are never written to; what is found goes to fuzz/work, a crash to fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${FUZZ_SECONDS:-60}
export RUSTC_BOOTSTRAP=1

packet=(ipv4 ipv6 transport vnet checksum segment coalesce round_trip decrement_ttl icmp_error wire write)
daemon=(control_message subnet_key lease_value network_config subnet_file routes decision)
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  targets=("${packet[@]}")
  [ "${FUZZ_DAEMON:-1}" = 0 ] || targets+=("${daemon[@]}")
fi
if [ -n "${FUZZ_TOTAL:-}" ] && [ $((FUZZ_TOTAL / ${#targets[@]})) -lt "$seconds" ]; then
  seconds=$((FUZZ_TOTAL / ${#targets[@]}))
fi

is_daemon() { [[ " ${daemon[*]} " == *" $1 "* ]]; }

# What `cargo fuzz build --sanitizer none` passes to the compiler, so that cargo-fuzz need not be
# installed for it. Safe code needs no address sanitizer; the readers of the daemon get none
# either, for no unsafe block is behind them, and the build is one.
triple=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1"
for option in -simplifycfg-branch-fold-threshold=0 -sanitizer-coverage-level=4 \
  -sanitizer-coverage-inline-8bit-counters -sanitizer-coverage-pc-table \
  -sanitizer-coverage-trace-compares; do
  flags+=" -Cllvm-args=$option"
done
options=(--release --target "$triple")
for target in "${targets[@]}"; do options+=(--bin "$target"); done
for target in "${targets[@]}"; do
  if is_daemon "$target"; then options+=(--features daemon); break; fi
done
RUSTFLAGS=$flags cargo build "${options[@]}" >/dev/null 2>target.log || { cat target.log >&2; exit 1; }
rm -f target.log

failed=()
for target in "${targets[@]}"; do
  mkdir -p "work/$target" "artifacts/$target"
  echo "== $target: $seconds s"
  if ! "target/$triple/release/$target" -max_total_time="$seconds" -max_len=4096 -dict=dictionary \
    -artifact_prefix="artifacts/$target/" -print_final_stats=1 -verbosity=0 -timeout=10 \
    "work/$target" "corpus/$target" 2>"work/$target.log"; then
    failed+=("$target")
    tail -n 30 "work/$target.log" >&2
  fi
  sed -n 's/^stat::number_of_executed_units: */   runs: /p' "work/$target.log"
done

# Coverage: what the inputs make run, by callgrind on a build without optimization, of the lines
# that the compiler says hold code. llvm-tools are no part of the toolchain everywhere; this is.
floor=${FUZZ_COVERAGE:-95}
if [ "$floor" != 0 ] && [ $# -eq 0 ]; then
  command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
  command -v valgrind >/dev/null || { echo "coverage needs valgrind: apt-get install valgrind" >&2; exit 1; }
  ../scripts/fuzz-coverage.sh "$floor" "${packet[@]}" || failed+=(coverage)
fi
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
