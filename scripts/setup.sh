#!/usr/bin/env bash
# Installs what the project needs on a Debian or Ubuntu machine that has Rust and nothing else.
#
#   scripts/setup.sh [build|demo|tunnels|test|docker|systemd|deb|rpm|static|fuzz]...     (default: build demo test)
#
# Says nothing and changes nothing when everything is there. Uses sudo when not root.
set -euo pipefail

# What each kind of work needs, by Debian's package names.
build="gcc libc6-dev"
demo="iproute2 iptables ethtool iputils-ping util-linux procps etcd-server etcd-client"
tunnels="wireguard-go wireguard-tools tinc nebula"
test="$demo $tunnels openssl nftables traceroute busybox-static strace prometheus tcpdump tshark"
docker="$test docker.io"
systemd="$test systemd-container debootstrap lintian mandoc man-db"
deb="dpkg-dev binutils"
rpm="rpm debugedit elfutils cpio"
static="gcc libc6-dev binutils"
cross_aarch64="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
cross_x86_64="gcc-x86-64-linux-gnu libc6-dev-amd64-cross qemu-user-static"
fuzz="valgrind binutils"

main() {
    check_rust
    [ $# -gt 0 ] || set -- build demo test
    local wanted="" group
    for group in "$@"; do
        case $group in
            build | demo | tunnels | test | docker | systemd | deb | rpm | static | cross_aarch64 | cross_x86_64 | fuzz) wanted+=" ${!group}" ;;
            *) die "unknown group '$group': use build, demo, tunnels, test, docker, systemd, deb, rpm, static or fuzz" ;;
        esac
    done
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        other_distribution "$wanted"
        return
    fi
    local missing=() package
    for package in $(tr ' ' '\n' <<<"$wanted" | sort -u); do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
}

check_rust() {
    command -v cargo >/dev/null || die "cargo is not in PATH: install Rust (https://rustup.rs), then run this again"
    local need have
    need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
    have=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$need" "${have%%-*}" | sort -V | head -n1)" != "$need" ]; then
        die "rustc $have is too old, $need or newer is needed: rustup update stable"
    fi
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "these packages are missing: $*
Neither root nor sudo is at hand; as root: apt-get install $*"
        as_root=(sudo)
    fi
    echo "installing: $*"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    # A list of packages that is missing or stale is the usual reason for a failed install.
    if ! "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1; then
        "${apt[@]}" update
        "${apt[@]}" install -y --no-install-recommends "$@"
    fi
    # Debian starts a package's server at once. The tests start their own.
    local service
    for service in etcd-server:etcd docker.io:docker prometheus:prometheus prometheus-node-exporter:prometheus-node-exporter tinc:tinc; do
        case " $* " in
            *" ${service%%:*} "*)
                if [ -d /run/systemd/system ]; then
                    "${as_root[@]}" systemctl disable --now "${service##*:}" >/dev/null 2>&1 || true
                fi ;;
        esac
    done
}

# Names differ between distributions: look for the programs and say what is missing.
other_distribution() {
    local missing=() program
    for program in cc ip iptables ethtool ping etcd etcdctl; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || missing+=("$program")
    done
    if [ ${#missing[@]} -ne 0 ]; then
        die "this is neither Debian nor Ubuntu, and these programs are missing: ${missing[*]}
Install them with your package manager; on Debian the packages are: $*"
    fi
}

die() {
    echo "setup: $*" >&2
    exit 1
}

main "$@"
