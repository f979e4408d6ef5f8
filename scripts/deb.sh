#!/usr/bin/env bash
# Makes the Debian package under target/debian with cargo-deb: of the program, the manual pages and the
# completions as they are built now, in the profile PROFILE (default: release).
#
#   PROFILE=checked scripts/deb.sh [arguments for cargo deb]
#
# Uses the cargo-deb in PATH; otherwise puts a pinned one into the user's cache, where all clones share it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.8.0
tools=${XDG_CACHE_HOME:-$HOME/.cache}/flannel-udp/tools
profile=${PROFILE:-release}

# Before the build, so that a failure here costs no time.
export PATH="$PATH:$tools/bin"
if ! cargo-deb --version >/dev/null 2>&1; then
    echo "installing cargo-deb $version under $tools (takes a minute, only once)"
    cargo install -q --locked --root "$tools" "cargo-deb@$version"
fi

scripts/build.sh >/dev/null
cargo deb --no-build --profile "$profile" "${@:---dbgsym}"
