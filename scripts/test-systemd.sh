#!/usr/bin/env bash
# Tests the Debian package on two hosts that systemd boots, and the RPM package on one of them (tests/systemd).
#
#   scripts/test-systemd.sh [arguments for the test program]
#
# The hosts run the Debian or Ubuntu release of this machine, for whose libraries the package is built. Their
# root file system is made once, with debootstrap, and kept in the user's cache. The package has the program
# that `make test` has built; only its profile differs from a release's.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=systemd,systemd-sysv,dbus,iproute2,procps,iptables,nftables,kmod,etcd-server,etcd-client,rpm
cache=${XDG_CACHE_HOME:-$HOME/.cache}/flannel-udp

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# The name tells what is in it: a change of the list makes another.
. /etc/os-release
components=main
[ "$ID" != ubuntu ] || components=main,universe
root=$cache/$VERSION_CODENAME-$(cksum <<<"$packages" | cut -d' ' -f1)

make_root() {
    [ ! -d "$root" ] || return 0
    echo "making the root file system $root (takes a minute, only once)"
    mkdir -p "$cache"
    local new
    new=$(mktemp -d "$cache/new.XXXXXX")
    if ! as_root debootstrap --variant=minbase --components="$components" --include="$packages" \
        "$VERSION_CODENAME" "$new/root" >"$cache/debootstrap.log" 2>&1; then
        tail -n 20 "$cache/debootstrap.log" >&2
        as_root rm -rf "$new"
        return 1
    fi
    as_root rm -rf "$new"/root/var/cache/apt/archives/*.deb "$new"/root/var/lib/apt/lists/* \
        "$new"/root/usr/share/{doc,locale,man}/*
    # Of two that were made at the same time, one stays.
    as_root mv -T "$new/root" "$root" 2>/dev/null || true
    as_root rm -rf "$new"
}

make_root &
making_root=$!
export PROFILE=checked FLANNEL_UDP_DEB=$PWD/target/debian/flannel-udp-test.deb FLANNEL_UDP_DEBIAN=$root
scripts/deb.sh --dbgsym --output "$FLANNEL_UDP_DEB"
scripts/test-packages.sh "$FLANNEL_UDP_DEB"
FLANNEL_UDP_RPM=$(echo "$PWD"/target/rpm/RPMS/*/flannel-udp-[0-9]*.rpm)
export FLANNEL_UDP_RPM
wait "$making_root"

scripts/test.sh --test systemd -- --ignored "$@"
