#!/usr/bin/env bash
# Instructions that each operation of crates/packet/benches takes, by valgrind's callgrind: unlike wall
# time they do not depend on what else the machine does. Prints a Markdown table.
#
#   scripts/callgrind.sh
#
# A run of 1,000 and one of 2,000 are counted; the difference is free of everything around them,
# and what resets an input between runs is counted by itself and taken off.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind" >&2; exit 1; }

binary=$(cargo bench --package flannel-packet --bench instructions --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || { echo "the bench did not build: cargo bench --package flannel-packet --bench instructions --no-run" >&2; exit 1; }

count() { # INDEX TIMES [reset]
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$@" 2>&1 |
    sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}

echo "| operation | library | instructions | per unit |"
echo "|---|---|---:|---:|"
"$binary" list | while IFS=$'\t' read -r index group library amount; do
  run=$(( $(count "$index" 2000) - $(count "$index" 1000) ))
  reset=$(( $(count "$index" 2000 reset) - $(count "$index" 1000 reset) ))
  each=$(( (run - reset + 500) / 1000 ))
  read -r number unit <<<"$amount"
  awk -v group="$group" -v library="$library" -v each="$each" -v number="$number" -v unit="$unit" 'BEGIN {
    printf "| %s | %s | %d | %.2f per %s |\n", group, library, each, each / number, substr(unit, 1, length(unit) - 1) }'
done
