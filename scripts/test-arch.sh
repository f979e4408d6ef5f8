#!/usr/bin/env bash
# Runs the unit and property tests of crates/packet and src/route on other processors, emulated by
# qemu: one of 64 bits, one of 32 bits, one that is big-endian.
#
#   scripts/test-arch.sh [arm64] [s390x] [i386]      default: all three
#   scripts/test-arch.sh daemon      the whole daemon on arm64: see scripts/test-arch-daemon.sh
#
# The compiler is Debian's, unpacked under target/arch: it is the one that comes with standard
# libraries for these. Where it is older than this crate's rust-version, the few library features
# that it lacks are switched on with RUSTC_BOOTSTRAP. Nothing is installed but qemu and the cross
# linkers; apt's own lists and foreign architectures are left alone.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" != daemon ] || exec scripts/test-arch-daemon.sh

sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
work=$PWD/target/arch
arches=("${@:-arm64 s390x i386}")
read -ra arches <<<"${arches[*]}"

target() { case $1 in
  arm64) echo aarch64-unknown-linux-gnu ;; s390x) echo s390x-unknown-linux-gnu ;;
  i386) echo i686-unknown-linux-gnu ;; *) echo "unknown architecture: $1" >&2; exit 2 ;; esac; }
triple() { case $1 in
  arm64) echo aarch64-linux-gnu ;; s390x) echo s390x-linux-gnu ;; i386) echo i686-linux-gnu ;; esac; }
emulator() { case $1 in
  arm64) echo qemu-aarch64-static ;; s390x) echo qemu-s390x-static ;; i386) echo qemu-i386-static ;; esac; }

# 1. qemu, linkers, C libraries.
packages=(qemu-user-static)
for arch in "${arches[@]}"; do
  libc=$arch; triple=$(triple "$arch")
  packages+=("gcc-${triple/_/-}" "libc6-dev-$libc-cross")
done
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  $sudo apt-get install -y --no-install-recommends "${missing[@]}" >"$work.log" 2>&1 ||
    { $sudo apt-get update >/dev/null; $sudo apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
fi

# 2. Debian's compiler and its libraries for the targets, all of one version.
mkdir -p "$work"/{lists/partial,cache/archives/partial,deb}
apt=(-o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=root"
     -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
     -o APT::Architectures::=s390x -o APT::Architectures::=i386)
if [ ! -x "$work/root/usr/bin/rustc" ]; then
  apt-get "${apt[@]}" update >/dev/null 2>&1 || true # An index that is missing shows below.
  version=$(apt-cache "${apt[@]}" madison libstd-rust-web-dev:s390x | awk -F'|' 'NR == 1 { gsub(/ /, "", $2); print $2 }')
  [ -n "$version" ] || { echo "Debian's libstd-rust-web-dev is not available for s390x" >&2; exit 1; }
  short=$(cut -d. -f1,2 <<<"$version")
  # The compiler's own libraries come along; those of the C library and the like are here.
  (cd "$work/deb" && apt-get "${apt[@]}" download "rustc-web:amd64=$version" "libstd-rust-web-$short:amd64=$version" libllvm19:amd64 \
    libstd-rust-web-dev:{amd64,arm64,s390x,i386}="$version" >/dev/null)
  for deb in "$work"/deb/*.deb; do dpkg -x "$deb" "$work/unpacked"; done
  mv "$work/unpacked" "$work/root"
fi
lib=$(dirname "$(find "$work/root" -name 'librustc_driver-*.so' | head -1)")
cat >"$work/rustc" <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$lib:$lib/x86_64-linux-gnu:$work/root/usr/lib/llvm-19/lib exec $work/root/usr/bin/rustc --sysroot $work/root/usr "\$@"
EOF
chmod +x "$work/rustc"
"$work/rustc" --version

# 3. Two packages that are nothing but the packet library and the route table with what their tests need.
mkdir -p "$work"/crate/{packet,route}
package() { # NAME LIB [DEPENDENCY]
  printf '[package]\nname = "%s"\nversion = "0.0.0"\nedition = "2024"\n' "$1"
  printf '[lib]\npath = "%s"\ndoctest = false\n' "$2"
  printf '[dependencies]\n%s\n' "${3:-}"
  printf '[dev-dependencies]\nprefix-trie = "0.10"\n'
  printf 'proptest = { version = "1", default-features = false, features = ["std"] }\n'
}
printf '[workspace]\nmembers = ["packet", "route"]\nresolver = "3"\n' >"$work/crate/Cargo.toml"
package flannel-packet "$PWD/crates/packet/src/lib.rs" >"$work/crate/packet/Cargo.toml"
package route lib.rs 'serde = { version = "1", features = ["derive"] }' >"$work/crate/route/Cargo.toml"
cat >"$work/crate/route/lib.rs" <<EOF
#![allow(unexpected_cfgs, unknown_lints, stable_features, missing_docs)]
#[path = "$PWD/src/route/mod.rs"]
pub mod route;
EOF

# 4. The tests, on each.
export RUSTC=$work/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$work/target
export RUSTFLAGS="-Zcrate-attr=feature(let_chains,slice_as_chunks) -Astable_features"
for arch in "${arches[@]}"; do
  target=$(target "$arch") triple=$(triple "$arch")
  name=$(tr a-z- A-Z_ <<<"$target")
  export "CARGO_TARGET_${name}_LINKER=$triple-gcc"
  export "CARGO_TARGET_${name}_RUNNER=$(emulator "$arch") -L /usr/$triple"
  echo "== $target"
  PROPTEST_CASES=${PROPTEST_CASES:-32} cargo test --manifest-path "$work/crate/Cargo.toml" --workspace --target "$target" --lib
done
