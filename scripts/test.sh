#!/usr/bin/env bash
# Runs every test of the project, the end-to-end ones included.
#
#   scripts/test.sh [arguments for cargo test]
#
# The end-to-end tests make network namespaces and TUN devices and so need root: when started by
# somebody else, everything is built as that user and only the test programs run through sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH="$PATH:/usr/sbin:/sbin"
# A test that would be skipped for want of root or of a program fails instead.
export FLANNEL_UDP_REQUIRE_ROOT=1

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "test: the end-to-end tests need root, and sudo is not installed." >&2
        echo "test: run this as root, or 'cargo test' for what needs no privileges." >&2
        exit 1
    }
    sudo -v
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo -E"
fi

# Profile `checked`: optimised, with overflow checks and debug assertions.
exec cargo test --locked --profile checked --no-fail-fast "$@"
