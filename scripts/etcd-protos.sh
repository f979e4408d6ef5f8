#!/usr/bin/env bash
# Generates crates/etcd-protos/generated anew for the etcd-client of Cargo.lock, by etcd-client's own build
# script and the real tonic-prost-build. Needs protoc (Debian: protobuf-compiler libprotobuf-dev).
#
#   scripts/etcd-protos.sh [--check]     with --check: writes nothing, fails if a file would change
set -euo pipefail
cd "$(dirname "$0")/.."

command -v protoc >/dev/null || { echo "etcd-protos: protoc is missing: apt-get install protobuf-compiler libprotobuf-dev" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo fetch --locked >/dev/null 2>&1
manifest=$(cargo metadata --locked --format-version 1 |
    python3 -c 'import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "etcd-client"))')
source=$(dirname "$manifest")
client=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$manifest")
generator=$(sed -n 's/^version = "\(.*\)"/\1/p' crates/etcd-protos/Cargo.toml)

# etcd-client's build script as a program of its own.
mkdir -p "$work/src" "$work/out"
cp "$source/build.rs" "$work/src/main.rs"
cat >"$work/Cargo.toml" <<TOML
[package]
name = "generate"
version = "0.0.0"
edition = "2021"
[features]
build-server = []
[dependencies]
tonic-prost-build = "=$generator"
[workspace]
TOML
cargo build --quiet --manifest-path "$work/Cargo.toml" --target-dir "$work/target"
(cd "$source" && OUT_DIR="$work/out" "$work/target/debug/generate" >/dev/null)

# Only what etcd-client includes; the rest are annotations for HTTP gateways.
mkdir "$work/generated"
for name in authpb etcdserverpb mvccpb v3electionpb v3lockpb; do
    cp "$work/out/$name.rs" "$work/generated/"
done
# The checksum is FNV-1a over the files in the order of the build script: checksum() in src/lib.rs.
(cd "$source" && grep -o '"proto/[^"]*\.proto"' build.rs | tr -d '"' | python3 -c 'import sys
sum = 0xcbf29ce484222325
for name in sys.stdin.read().split():
    for byte in open(name, "rb").read():
        sum = (sum ^ byte) * 0x100000001b3 % 2**64
print(f"protos {sum:016x}")') >"$work/generated/origin"
cat >>"$work/generated/origin" <<TEXT
etcd-client $client
tonic-prost-build $generator
TEXT

if [ "${1:-}" = --check ]; then
    diff -r "$work/generated" crates/etcd-protos/generated
else
    cp "$work"/generated/* crates/etcd-protos/generated/
fi
