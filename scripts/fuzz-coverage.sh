#!/usr/bin/env bash
# Prints which share of the lines of crates/packet/src the fuzzers' inputs reach, by file.
#
#   scripts/fuzz-coverage.sh FLOOR TARGET...      fails below FLOOR per cent
#
# A line counts if the debug information of any target says that it holds code, and as reached if
# callgrind saw it run.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
floor=$1; shift
triple=$(rustc -vV | sed -n 's/^host: //p')
work=work/coverage
mkdir -p "$work"

# No optimization, no fuzzer's instrumentation of its own: the driver runs inputs all the same.
RUSTC_BOOTSTRAP=1 cargo fuzz build --dev --sanitizer none --target-dir target/coverage >/dev/null 2>"$work/log" ||
  { cat "$work/log" >&2; exit 1; }

: >"$work/all"; : >"$work/hit"
for target in "$@"; do
  binary=target/coverage/$triple/debug/$target
  objdump --dwarf=decodedline "$binary" 2>/dev/null |
    awk '/^CU: |^[^ ].*:(\[\+\+\])?$/ { file = $0; sub(/^CU: /, "", file); sub(/:(\[\+\+\])?$/, "", file); next }
         NF >= 3 && $2 ~ /^[0-9]+$/ && $2 > 0 && file ~ /crates\/packet\/src\// { print file ":" $2 }' |
    sed 's/.*crates\/packet\/src\///' >>"$work/all"
  inputs=("corpus/$target"); [ -d "work/$target" ] && inputs+=("work/$target")
  # Small inputs, and not all that a long run has found: valgrind is slow.
  find "${inputs[@]}" -type f -size -8k | head -n 400 >"$work/inputs"
  valgrind --tool=callgrind --callgrind-out-file="$work/$target.out" --compress-strings=no \
    --compress-pos=no "$binary" $(cat "$work/inputs") >"$work/$target.log" 2>&1 ||
    { tail -n 5 "$work/$target.log" >&2; exit 1; }
  awk '/^(fl|fi|fe)=/ { file = $0; sub(/^f[lie]=/, "", file); next }
       /^calls=/ { getline; if (file ~ /crates\/packet\/src\//) print file ":" $1; next }
       /^[0-9]+ / && file ~ /crates\/packet\/src\// { print file ":" $1 }' "$work/$target.out" |
    sed 's/.*crates\/packet\/src\///' >>"$work/hit"
done
sort -u "$work/all" -o "$work/all"; sort -u "$work/hit" -o "$work/hit"
comm -23 "$work/all" "$work/hit" >"$work/missed"
awk -F: -v floor="$floor" '
  FNR == NR { all[$1]++; total++; next }
  { missed[$1]++; none++ }
  END {
    for (file in all) printf "%6.1f %%  %4d of %4d  %s\n", 100 * (all[file] - missed[file]) / all[file], all[file] - missed[file], all[file], file | "sort -k6"
    close("sort -k6")
    share = total ? 100 * (total - none) / total : 0
    printf "%6.1f %%  %4d of %4d  crates/packet/src\n", share, total - none, total
    exit share < floor
  }' "$work/all" "$work/missed"
