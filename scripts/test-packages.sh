#!/usr/bin/env bash
# Tests what users install, without installing it on this machine: the Debian packages, the RPM packages,
# `make install`, and the manual pages in them.
#
#   scripts/test-packages.sh DEB      (beside it its debug symbols, DEB with the suffix .ddeb)
#
# `make test-systemd` runs this with the packages that it makes. PROFILE is that of the program in them.
set -euo pipefail
cd "$(dirname "$0")/.."

deb=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

main() {
    manual_pages
    debian_package
    installed_by_make
    rpm_package
    echo "packages: ok"
}

die() {
    echo "packages: $*" >&2
    exit 1
}

# Rendered without a warning, and none is missing that another one names.
manual_pages() {
    local page name
    mandoc -T lint -W warning target/generated/*.8 || die "mandoc reports problems in the manual pages"
    for page in target/generated/*.8; do
        man --warnings -E UTF-8 -l "$page" >"$work/page" 2>"$work/said" || die "man does not render $page"
        [ ! -s "$work/said" ] || die "man warns about $page: $(cat "$work/said")"
        for name in $(sed 's/\\f[BR]//g; s/\\-/-/g' "$page" | grep -oE 'flannel-udp[a-z-]*\(8\)'); do
            [ -e "target/generated/${name%(8)}.8" ] || die "$page refers to $name, which is missing"
        done
    done
}

debian_package() {
    # What is overridden has its reason in packaging/deb/lintian-overrides.
    lintian --allow-root --display-info --fail-on error,warning "$deb" || die "lintian reports problems"
    dpkg-deb --extract "$deb" "$work/deb"
    dpkg-deb --extract "${deb%.deb}.ddeb" "$work/ddeb"
    symbols_are_apart "$work/deb/usr/bin/flannel-udp" "$work/ddeb"
    local name
    for name in copyright changelog.gz changelog.Debian.gz; do
        [ -s "$work/deb/usr/share/doc/flannel-udp/$name" ] || die "the package has no $name"
    done
    local version
    version=$(zcat "$work/deb/usr/share/doc/flannel-udp/changelog.Debian.gz" | dpkg-parsechangelog -l- -S Version)
    [ "$version" = "$(dpkg-deb --field "$deb" Version)" ] || die "the changelog ends at $version"
}

# symbols_are_apart PROGRAM DIRECTORY: the program has none, and those in the directory are its.
symbols_are_apart() {
    local id
    ! readelf -SW "$1" | grep -E '\.(symtab|debug_info)' >/dev/null || die "$1 is not stripped"
    id=$(readelf -n "$1" | sed -n 's/.*Build ID: //p')
    local file=$2/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug
    [ -e "$file" ] || die "no debug symbols for build ID $id in $2"
    readelf -SW "$file" 2>/dev/null | grep -E '\.symtab|\.debug_info' >/dev/null || die "$file has no symbols"
}

# The files below a directory that belong to no documentation, without what differs by a distribution's rules.
files_below() {
    (cd "$1" && find . -type f ! -path './usr/share/doc/*' ! -path './usr/share/lintian/*' \
        ! -path './usr/share/licenses/*' | sed 's/\.gz$//; s|zsh/vendor-completions|zsh/site-functions|' | sort)
}

installed_by_make() {
    local program
    program=$(scripts/build.sh)
    make DESTDIR="$work/usr" PREFIX=/usr PROGRAM="$program" install
    diff <(files_below "$work/deb") <(files_below "$work/usr") || die "make install and the .deb differ"
    cmp "$work/usr/usr/lib/systemd/system/flannel-udp.service" packaging/systemd/flannel-udp.service

    # With another prefix the units name the files that are there, and systemd finds no fault in them.
    make DESTDIR="$work/opt" PREFIX=/opt/net SYSCONFDIR=/opt/etc PROGRAM="$program" install
    local unit=$work/opt/opt/net/lib/systemd/system/flannel-udp.service path
    for path in $(grep -rhoE '/[a-z/.-]*flannel-udp(\.[a-z]+)?' "$unit" "$work/opt/opt/net/share/flannel-udp"); do
        case $path in
            /opt/*) [ -e "$work/opt$path" ] || die "a unit names $path, which make install does not write" ;;
            /usr/* | /etc/default/*) die "a unit still names $path" ;;
        esac
    done
    "$work/opt/opt/net/bin/flannel-udp" --version >/dev/null

    echo FLANNELD_IFACE=eth0 >"$work/opt/opt/etc/default/flannel-udp"
    make DESTDIR="$work/opt" PREFIX=/opt/net SYSCONFDIR=/opt/etc PROGRAM="$program" install
    make DESTDIR="$work/opt" PREFIX=/opt/net SYSCONFDIR=/opt/etc uninstall
    [ "$(cat "$work/opt/opt/etc/default/flannel-udp")" = FLANNELD_IFACE=eth0 ] || die "options were replaced"
    [ "$(find "$work/opt" -type f | wc -l)" = 1 ] || die "make uninstall leaves: $(find "$work/opt" -type f)"
}

rpm_package() {
    scripts/rpm.sh
    local package symbols
    package=$(ls target/rpm/RPMS/*/flannel-udp-[0-9]*.rpm)
    symbols=$(ls target/rpm/RPMS/*/flannel-udp-debuginfo-*.rpm)
    mkdir "$work/rpm" "$work/rpm-debug"
    rpm2cpio "$package" | (cd "$work/rpm" && cpio -idm --quiet)
    rpm2cpio "$symbols" | (cd "$work/rpm-debug" && cpio -idm --quiet)
    diff <(files_below "$work/usr") <(files_below "$work/rpm") || die "make install and the RPM differ"
    symbols_are_apart "$work/rpm/usr/bin/flannel-udp" "$work/rpm-debug"

    # What rpm itself says of the package.
    rpm -qpl "$package" >"$work/list"
    grep -qx /usr/lib/systemd/system/flannel-udp.service "$work/list" || die "rpm -qpl: $(cat "$work/list")"
    [ "$(rpm -qp --configfiles "$package")" = /etc/default/flannel-udp ] || die "the options are not a config file"
    rpm -qp --requires "$package" | grep 'iptables or nftables' >/dev/null || die "the RPM requires no firewall tool"
    local kind
    for kind in postin preun postun; do
        rpm -qp --queryformat "%{${kind^^}}" "$package" >"$work/$kind"
        grep -q flannel-udp "$work/$kind" || die "the RPM has no $kind script"
        sh -n "$work/$kind"
    done
}

main
