#!/usr/bin/env bash
# Builds the whole daemon for arm64 and runs two of it, emulated by qemu, in two network namespaces
# of this machine, which ping each other through the tunnel. Needs root, rustup and Debian's qemu.
#
#   scripts/test-arch.sh daemon
#   PROGRAM=target/static/aarch64/flannel-udp scripts/test-arch.sh daemon      with the static program
set -euo pipefail
cd "$(dirname "$0")/.."

sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
target=aarch64-unknown-linux-gnu
packages=(qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
dpkg -s "${packages[@]}" >/dev/null 2>&1 ||
  $sudo apt-get install -y --no-install-recommends "${packages[@]}" >/dev/null
if [ -n "${PROGRAM:-}" ]; then
  binary=$PWD/$PROGRAM
else
  rustup target add "$target" ||
    { echo "rustup cannot install the standard library for $target: rustup target add $target" >&2; exit 1; }
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    cargo build --locked --profile checked --bin flannel-udp --target "$target" --target-dir target/arm64
  binary=$PWD/target/arm64/$target/checked/flannel-udp
fi
emulated=(qemu-aarch64-static -L /usr/aarch64-linux-gnu "$binary")

work=$(mktemp -d)
a=fuarch-$$-a b=fuarch-$$-b
clean_up() {
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null || true
  wait
  for netns in "$a" "$b"; do $sudo ip netns del "$netns" 2>/dev/null || true; done
  $sudo rm -rf "$work"
}
trap clean_up EXIT

"${emulated[@]}" --version
options=("--registry=file:$work/registry" --iface=veth0)
# Both would have the same one.
if "${emulated[@]}" --help | grep -e --socket >/dev/null; then options+=(--socket=); fi
printf 'FLANNEL_NETWORK=10.99.0.0/16\nFLANNEL_SUBNET=10.99.7.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n' >"$work/env"
"${emulated[@]}" docker-opts -f "$work/env" -d "$work/docker"
grep -q -- --bip=10.99.7.1/24 "$work/docker"

mkdir "$work/registry"
echo '{"Network": "10.99.0.0/16", "Backend": {"Type": "udp"}}' >"$work/registry/config"
$sudo ip netns add "$a"; $sudo ip netns add "$b"
$sudo ip link add veth0 netns "$a" type veth peer name veth0 netns "$b"
for host in "1 $a" "2 $b"; do
  read -r number netns <<<"$host"
  $sudo ip -n "$netns" link set lo up
  $sudo ip -n "$netns" addr add "192.0.2.$number/24" dev veth0
  $sudo ip -n "$netns" link set veth0 up
  $sudo ip netns exec "$netns" timeout 60 "${emulated[@]}" "${options[@]}" \
    "--subnet-file=$work/subnet.$number" >"$work/log.$number" 2>&1 &
done

# Ready is who knows the other's subnet. The name of a subnet's network is an address of its host.
for _ in $(seq 300); do
  grep -q 'routes=1\|peers=1' "$work/log.1" && grep -q 'routes=1\|peers=1' "$work/log.2" &&
    [ -s "$work/subnet.2" ] && break
  sleep 0.1
done
# shellcheck source=/dev/null
peer=$(. "$work/subnet.2"; echo "${FLANNEL_SUBNET%.1/*}.0")
if ! $sudo ip netns exec "$a" ping -c 5 -i 0.2 -W 2 "$peer"; then
  tail -n 20 "$work"/log.* >&2
  exit 1
fi
"${emulated[@]}" leases list "--registry=file:$work/registry"
echo "two arm64 daemons reach each other"
