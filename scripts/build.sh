#!/usr/bin/env bash
# Builds the program in the profile PROFILE (default: release), writes its manual pages and completions to
# target/generated, and prints the path of the program.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}
directory=target/${profile/#dev/debug}
cargo build --locked --profile "$profile" --bin flannel-udp --example gen-docs >&2
rm -rf target/generated
"$directory/examples/gen-docs" target/generated
echo "$directory/flannel-udp"
