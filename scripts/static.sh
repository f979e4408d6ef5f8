#!/usr/bin/env bash
# Builds the program for musl, statically linked and stripped, as target/static/ARCH/flannel-udp, and checks
# that it is that: it needs no library and no loader, and it runs, by qemu where this machine has another CPU.
#
#   PROFILE=static scripts/static.sh [x86_64] [aarch64]      default: this machine's
#
# The standard library for musl comes by rustup, which brings musl's C library and start files as well. The C
# compiler is only for the cryptography library, whose C code calls nothing of the C library; so it may be
# that for glibc.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-static}
limit=15000000
host=$(uname -m)

main() {
    [ $# -gt 0 ] || set -- "$host"
    local arch
    for arch in "$@"; do
        case $arch in
            x86_64 | aarch64) ;;
            *) die "unknown architecture '$arch': use x86_64 or aarch64" ;;
        esac
    done
    scripts/setup.sh static
    for arch in "$@"; do
        build "$arch"
        check "$arch"
    done
}

build() {
    local target=$1-unknown-linux-musl compiler=gcc name
    if [ "$1" != "$host" ]; then
        scripts/setup.sh "cross_$1"
        compiler=${1/x86_64/x86-64}-linux-gnu-gcc
    fi
    rustup target add "$target" >/dev/null 2>&1 ||
        die "rustup cannot install the standard library for $target: rustup target add $target"
    name=$(tr a-z- A-Z_ <<<"$target")
    # The linker that comes with Rust makes it smaller: equal functions become one, relative relocations take a
    # bit each. Fortified functions are glibc's.
    env "CARGO_TARGET_${name}_LINKER=rust-lld" \
        "CARGO_TARGET_${name}_RUSTFLAGS=-Clink-arg=--icf=all -Clink-arg=-zpack-relative-relocs" \
        "CC_${target//-/_}=$compiler" "CFLAGS_${target//-/_}=-U_FORTIFY_SOURCE" \
        cargo build --locked --profile "$profile" --bin flannel-udp --target "$target" --config "profile.$profile.strip='symbols'"
    install -D "target/$target/$profile/flannel-udp" "target/static/$1/flannel-udp"
}

check() {
    local program=target/static/$1/flannel-udp run=() headers size
    [ "$1" = "$host" ] || run=("qemu-$1-static")
    headers=$(readelf --wide --program-headers --dynamic --sections "$program")
    if grep -E 'INTERP|NEEDED' <<<"$headers"; then die "$program is not static"; fi
    if grep -E '\.symtab|\.debug_' <<<"$headers"; then die "$program is not stripped"; fi
    size=$(stat -c %s "$program")
    [ "$profile" != static ] || [ "$size" -le $limit ] || die "$program is $size bytes long, more than $limit"
    "${run[@]}" "$program" --version >/dev/null
    "${run[@]}" "$program" --help >/dev/null
    commands "${run[@]}" "$program"
    echo "$program: $size bytes, static, stripped"
}

# Commands that need neither root nor a daemon: one writes a file, one reads a directory.
commands() {
    local dir
    dir=$(mktemp -d)
    echo '{"Network": "10.99.0.0/16", "Backend": {"Type": "udp"}}' >"$dir/config"
    printf 'FLANNEL_SUBNET=10.99.7.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n' >"$dir/subnet.env"
    "$@" docker-opts -f "$dir/subnet.env" -d "$dir/docker.env"
    grep -q -- --bip=10.99.7.1/24 "$dir/docker.env" || die "docker-opts wrote: $(cat "$dir/docker.env")"
    "$@" leases list "--registry=file:$dir" >/dev/null
    rm -rf "$dir"
}

die() {
    echo "static: $*" >&2
    exit 1
}

main "$@"
