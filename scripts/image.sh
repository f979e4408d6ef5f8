#!/usr/bin/env bash
# Makes a container image with the static program, iptables and nft: target/image/flannel-udp-ARCH.tar, an OCI
# archive that `docker load`, `podman load` and `ctr image import` read. No registry, no container engine and
# no root are needed.
#
#   PROFILE=static scripts/image.sh [x86_64] [aarch64]      default: this machine's
#   PROGRAM=FILE scripts/image.sh [ARCH]                     with that program instead of the static one
#
# The first layer has iptables with all its extensions, for nftables and legacy, nft, and what they depend on:
# packages of this machine's Debian or Ubuntu release, which apt selects and verifies with lists of its own, so
# that this machine's packages and architectures are left alone. The second layer has the program.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(uname -m)
work=$PWD/target/image
created=$(git log -1 --format=%ct 2>/dev/null || date +%s)
epoch=${SOURCE_DATE_EPOCH:-$created}

main() {
    [ $# -gt 0 ] || set -- "$host"
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "apt-get and dpkg-deb are missing: the image gets iptables and nft from Debian or Ubuntu packages"
    local arch program
    for arch in "$@"; do
        program=${PROGRAM:-}
        if [ -z "$program" ]; then
            scripts/static.sh "$arch"
            program=target/static/$arch/flannel-udp
        fi
        make_image "$arch" "$program"
    done
}

make_image() {
    local arch=$1 program=$2 debian
    case $arch in
        x86_64) debian=amd64 ;;
        aarch64) debian=arm64 ;;
        *) die "unknown architecture '$arch': use x86_64 or aarch64" ;;
    esac
    local dir=$work/$arch
    rm -rf "$dir"
    mkdir -p "$dir/oci/blobs/sha256" "$dir/program/usr/bin"
    unpack_packages "$debian" "$dir/debs" "$dir/root"
    install "$program" "$dir/program/usr/bin/flannel-udp"
    write_archive "$debian" "$dir"
    rm -rf "$dir"
    echo "target/image/flannel-udp-$arch.tar: $(stat -c %s "$work/flannel-udp-$arch.tar") bytes; docker load -i FILE"
}

# The files of the packages, without documentation other than licences, and the links that their installation
# scripts would make.
unpack_packages() {
    local debian=$1 debs=$2 root=$3 deb name
    local state=${XDG_CACHE_HOME:-$HOME/.cache}/flannel-udp/apt-$debian
    mkdir -p "$debs/partial" "$state/lists/partial"
    local apt=(apt-get -q -o "Dir::State=$state" -o Dir::State::status=/dev/null -o "Dir::Cache=$state"
        -o "Dir::Cache::archives=$debs" -o "APT::Architecture=$debian" -o "APT::Architectures=$debian"
        -o APT::Install-Recommends=false -o "APT::Sandbox::User=$(id -un)")
    { "${apt[@]}" update && "${apt[@]}" install -y --download-only iptables nftables &&
        (cd "$debs" && "${apt[@]}" download ca-certificates); } >"$state/log" 2>&1 ||
        { tail -n 20 "$state/log" >&2; die "apt cannot find the packages for $debian"; }
    mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/etc/ssl/certs "$root"/run "$root"/var
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
    ln -s ../run "$root/var/run"
    for deb in "$debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -xp --keep-directory-symlink -C "$root"
    done
    find "$root/usr/share/doc" ! -type d ! -name copyright -delete
    rm -rf "$root"/usr/share/{man,locale,lintian,info} "$root"/usr/lib/*/{gconv,audit} "$root"/usr/lib/systemd
    install -d -m 1777 "$root/tmp"
    echo 'root:x:0:0:root:/:/usr/sbin/nologin' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root/usr/share/ca-certificates"
    mkdir -p "$root/usr/lib/flannel-udp/legacy"
    for name in {iptables,ip6tables}{,-save,-restore}; do
        ln -s xtables-nft-multi "$root/usr/sbin/$name"
        ln -s ../../../sbin/xtables-legacy-multi "$root/usr/lib/flannel-udp/legacy/$name"
    done
}

# As image-spec v1.1 of the Open Container Initiative asks for, with the manifest.json of `docker save`, which
# Docker before version 25 reads.
write_archive() {
    local debian=$1 dir=$2 date version
    date=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
    version=$(field version)
    local layer diff_ids=() layers=() files=() name
    for name in root program; do
        archive "$dir/$name" "$dir/$name.tar"
        diff_ids+=("\"sha256:$(sha256sum "$dir/$name.tar" | cut -d' ' -f1)\"")
        gzip -n "$dir/$name.tar"
        layer=$(blob "$dir" "$dir/$name.tar.gz")
        layers+=("$(descriptor "$dir" image.layer.v1.tar+gzip "$layer")")
        files+=("\"blobs/sha256/$layer\"")
    done
    cat >"$dir/config" <<EOF
{"architecture": "$debian", "os": "linux", "created": "$date",
 "config": {
  "Entrypoint": ["/usr/bin/flannel-udp"],
  "Env": ["PATH=/usr/sbin:/usr/bin"],
  "WorkingDir": "/",
  "StopSignal": "SIGTERM",
  "Labels": {
   "org.opencontainers.image.title": "flannel-udp",
   "org.opencontainers.image.description": "$(field description)",
   "org.opencontainers.image.version": "$version",
   "org.opencontainers.image.revision": "$(git rev-parse HEAD 2>/dev/null || echo unknown)",
   "org.opencontainers.image.created": "$date",
   "org.opencontainers.image.source": "$(field repository)",
   "org.opencontainers.image.documentation": "$(field repository)/blob/main/docs/install.md",
   "org.opencontainers.image.licenses": "Apache-2.0 AND GPL-2.0-or-later AND LGPL-2.1-or-later"}},
 "rootfs": {"type": "layers", "diff_ids": [$(join "${diff_ids[@]}")]},
 "history": [
  {"created": "$date", "created_by": "iptables, nftables and their dependencies from Debian packages"},
  {"created": "$date", "created_by": "the program"}]}
EOF
    local config manifest
    config=$(blob "$dir" "$dir/config")
    cat >"$dir/manifest" <<EOF
{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
 "config": $(descriptor "$dir" image.config.v1+json "$config"),
 "layers": [$(join "${layers[@]}")]}
EOF
    manifest=$(blob "$dir" "$dir/manifest")
    local annotations="\"io.containerd.image.name\": \"docker.io/library/flannel-udp:$version\",
  \"org.opencontainers.image.ref.name\": \"$version\""
    cat >"$dir/oci/index.json" <<EOF
{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
 "manifests": [$(descriptor "$dir" image.manifest.v1+json "$manifest" \
        ", \"platform\": {\"architecture\": \"$debian\", \"os\": \"linux\"}, \"annotations\": {$annotations}")]}
EOF
    echo '{"imageLayoutVersion": "1.0.0"}' >"$dir/oci/oci-layout"
    cat >"$dir/oci/manifest.json" <<EOF
[{"Config": "blobs/sha256/$config", "Layers": [$(join "${files[@]}")],
  "RepoTags": ["flannel-udp:$version", "flannel-udp:latest"]}]
EOF
    archive "$dir/oci" "$work/flannel-udp-$(basename "$dir").tar"
}

# The same files give the same bytes.
archive() {
    tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" .
}

# Moves a file among the blobs; prints its digest.
blob() {
    local digest
    digest=$(sha256sum "$2" | cut -d' ' -f1)
    mv "$2" "$1/oci/blobs/sha256/$digest"
    echo "$digest"
}

descriptor() {
    printf '{"mediaType": "application/vnd.oci.%s", "digest": "sha256:%s", "size": %d%s}' \
        "$2" "$3" "$(stat -c %s "$1/oci/blobs/sha256/$3")" "${4:-}"
}

# A field of the root package or, inherited, of the workspace.
field() {
    sed -n "s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml | head -n 1
}

join() {
    local IFS=,
    echo "$*"
}

die() {
    echo "image: $*" >&2
    exit 1
}

main "$@"
