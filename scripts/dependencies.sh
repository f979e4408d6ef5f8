#!/usr/bin/env bash
# Fails if a direct dependency of the workspace has no row in docs/dependencies.md, or a row has no dependency.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
page=docs/dependencies.md

# Depth 1 below each member: all kinds, features and targets. The members themselves are no dependencies.
members=$(cargo tree --locked --workspace --depth 0 --prefix none --format '{p}' | sed -n 's/ .*//p' | sort -u)
used=$(cargo tree --locked --workspace --depth 1 --prefix depth --edges normal,build,dev --no-dedupe --all-features \
    --target all --format ' {p}' | sed -n 's/^1 \([^ ]*\) .*/\1/p' | sort -u | comm -23 - <(echo "$members"))

# Rows of all tables but those under "In the tree" and "Tried and rejected".
listed=$(sed '/^## In the tree/,$d' "$page" | sed -n 's/^| `\([^`]*\)` |.*/\1/p' | sort)

rc=0
for crate in $(comm -23 <(echo "$used") <(echo "$listed")); do
    echo "dependencies: '$crate' has no row in $page: say in one line what it is for" >&2
    rc=1
done
for crate in $(comm -13 <(echo "$used") <(echo "$listed")); do
    echo "dependencies: $page has a row for '$crate', which is not a direct dependency: remove the row" >&2
    rc=1
done
exit $rc
