#!/usr/bin/env bash
# Installs what `make build man` built, without a package manager; or removes it again.
#
#   PREFIX=/usr/local DESTDIR= scripts/install.sh [install|uninstall]
#
# DESTDIR is put before every path: for whoever makes a package of the files. Also read: SYSCONFDIR (/etc),
# UNITDIR ($PREFIX/lib/systemd/system) and ZSHDIR ($PREFIX/share/zsh/site-functions), PROGRAM (the program to
# install: target/release/flannel-udp). An existing file of options is kept, by both.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX-/usr/local}
etc=${SYSCONFDIR-/etc}
program=${PROGRAM:-target/release/flannel-udp}
units=${UNITDIR:-$prefix/lib/systemd/system}
zsh=${ZSHDIR:-$prefix/share/zsh/site-functions}
docs=target/generated

# Calls `$1 FILE PATH MODE` for each file but the options.
each_file() {
    "$1" "$program" "$prefix/bin/flannel-udp" 755
    "$1" packaging/systemd/flannel-udp.service "$units/flannel-udp.service" 644
    local path
    for path in docker.service.d/flannel-udp.conf flannel-udp.service.d/user.conf; do
        "$1" "packaging/systemd/$path" "$prefix/share/flannel-udp/$path" 644
    done
    for path in "$docs"/*.8; do
        "$1" "$path" "$prefix/share/man/man8/${path##*/}" 644
    done
    "$1" "$docs/flannel-udp.bash" "$prefix/share/bash-completion/completions/flannel-udp" 644
    "$1" "$docs/_flannel-udp" "$zsh/_flannel-udp" 644
    "$1" "$docs/flannel-udp.fish" "$prefix/share/fish/vendor_completions.d/flannel-udp.fish" 644
}

# Units name other files of the package as the Debian package has them.
add() {
    local target=${DESTDIR:-}$2
    install -D -m "$3" "$1" "$target"
    case $1 in
        packaging/systemd/*)
            sed -i -e "s|/usr/bin/flannel-udp|$prefix/bin/flannel-udp|g; s|/usr/share/flannel-udp|$prefix/share/flannel-udp|g" \
                -e "s|/etc/default/flannel-udp|$etc/default/flannel-udp|g" "$target" ;;
    esac
}

remove() {
    rm -f "${DESTDIR:-}$2"
}

case ${1:-install} in
    install)
        for needed in "$program" "$docs/flannel-udp.8"; do
            [ -e "$needed" ] || { echo "install: $needed is missing: run \`make build man\` first" >&2; exit 1; }
        done
        each_file add
        options=${DESTDIR:-}$etc/default/flannel-udp
        [ -e "$options" ] || install -D -m 644 packaging/flannel-udp.default "$options"
        ;;
    uninstall)
        each_file remove
        rmdir -p --ignore-fail-on-non-empty "${DESTDIR:-}$prefix"/share/flannel-udp/*/ 2>/dev/null || true
        ;;
    *)
        echo "install: unknown argument '$1': use install or uninstall" >&2
        exit 64
        ;;
esac
