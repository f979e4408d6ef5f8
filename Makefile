# make demo   two hosts on this machine, packets across, a small table of results
# make bench  the tunnel compared with the kernel's VXLAN and the plain underlay
# make check  what a change must pass before it is proposed, in two minutes, as an ordinary user
# make test   every test, the end-to-end ones included (they need root: sudo is used)
# make help   the rest

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
CARGO ?= cargo
# `make demo ARGS=--etcd`, `make test ARGS='--test e2e wire'`
ARGS ?=
# Read by scripts/install.sh; so are DESTDIR, SYSCONFDIR, UNITDIR, ZSHDIR and PROGRAM.
PREFIX ?= /usr/local
export PREFIX
MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup:  ## install missing packages (Debian, Ubuntu)
	@scripts/setup.sh

build:  ## the program in release mode: target/release/flannel-udp
	@scripts/setup.sh build
	$(CARGO) build --locked --release

demo:  ## two hosts on this machine: ping, a checked transfer, throughput (ARGS=--etcd, ARGS=--keep)
	@scripts/setup.sh build demo
	$(CARGO) build --locked --release
	@target/release/flannel-udp demo $(ARGS)

bench:  ## the tunnel compared with VXLAN and the plain underlay, 40 minutes; rewrites the tables of README and docs
	@scripts/setup.sh build demo
	$(CARGO) build --locked --release
	$(CC) -O2 -Wall -o target/release/baseline-loop benches/baseline/loop.c
	target/release/flannel-udp bench --modes underlay,vxlan,flannel-udp,off,spin0,half,watched \
		--baseline target/release/baseline-loop \
		--svg docs/benchmarks.svg --summary README.md --summary docs/benchmarks.md \
		--markdown docs/benchmarks-full.md $(ARGS)
	target/release/flannel-udp bench --mtu 9000 --underlay nic --only tcp1,tcp4,ppsfull \
		--markdown docs/benchmarks-full.md --mark bench9000 $(ARGS)

bench-tunnels:  ## the tunnel compared with wireguard-go, tinc and nebula, which it installs, 10 minutes; rewrites their tables
	@scripts/setup.sh build demo tunnels
	$(CARGO) build --locked --release
	target/release/flannel-udp bench --seconds 1 --underlay nic --only tcp1,tcp4,pps18,rr \
		--modes host-gw,vxlan,flannel-udp,off,wireguard-go,tinc,tinc-plain,nebula --mark tunnels \
		--summary docs/benchmarks.md --markdown docs/benchmarks-full.md $(ARGS)

profile:  ## breakdown of the CPU time of a benchmark, with perf (ARGS="pps18 vxlan flannel-udp")
	@scripts/setup.sh build demo
	$(CARGO) build --locked --release
	@scripts/profile.sh $(ARGS)

check:  ## formatting, clippy, unit and property tests, claims in the docs: no root, no network, two minutes
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	scripts/dependencies.sh
	$(CARGO) test --locked --workspace --all-features --lib --test differential --test claims

test:  ## every test; needs root or sudo
	@scripts/setup.sh build test
	scripts/test.sh $(ARGS)

test-long:  ## the end-to-end tests in their long form: the whole offload matrix, 30 s outages
	@scripts/setup.sh build test
	FLANNEL_UDP_LONG=1 scripts/test.sh --test e2e $(ARGS)

test-docker:  ## the steps of docs/walkthrough.md, and the container image, with two real Docker engines
	@scripts/setup.sh build docker
	@# The image has the tests' own program here, and so needs no second build; make test-static has the other.
	scripts/test.sh --test docker --no-run
	PROGRAM=target/checked/flannel-udp scripts/image.sh
	FLANNEL_UDP_IMAGE=$$PWD/target/image/flannel-udp-$$(uname -m).tar scripts/test.sh --test docker -- --ignored

test-static:  ## end-to-end tests of the static program, name lookup, TLS and dropped privileges included
	@scripts/setup.sh build test
	scripts/static.sh
	FLANNEL_UDP_PROGRAM=$$PWD/target/static/$$(uname -m)/flannel-udp scripts/test.sh --test e2e -- \
		$(or $(ARGS),names device_node privileges calls_that_move wire outage)

test-systemd:  ## the Debian package on two hosts booted by systemd, from installation to purge
	@scripts/setup.sh build deb rpm systemd
	scripts/test-systemd.sh $(ARGS)

lint:  ## formatting, clippy, documentation, licences of the dependencies
	@scripts/setup.sh build
	$(CARGO) fmt --all --check
	@# In the tests' profile: what the build itself needs (macros, build scripts) is then built once for both.
	$(CARGO) clippy --locked --profile checked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --profile checked --workspace --no-deps --document-private-items
	scripts/deny.sh
	scripts/dependencies.sh

public-api:  ## record the packet library's public interface in crates/packet/public-api.txt
	UPDATE_PUBLIC_API=1 $(CARGO) test --locked --package flannel-packet --test public_api

fuzz:  ## fuzz every parser and operation, FUZZ_SECONDS each; prints the coverage reached
	@scripts/setup.sh build fuzz
	scripts/fuzz.sh $(ARGS)

test-arch:  ## unit and property tests of packet and route on arm64, s390x and i386, emulated (ARGS=daemon: the whole daemon on arm64)
	scripts/test-arch.sh $(ARGS)

test-loom:  ## the route table's writer and readers in every interleaving
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked --profile checked --package flannel-udp \
		--no-default-features --target-dir target/loom --lib interleavings

test-asan:  ## unit, kernel and end-to-end tests under AddressSanitizer, for the unsafe code of src/sys
	@scripts/setup.sh build test
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/asan scripts/test.sh \
		--target $$(rustc -vV | sed -n 's/^host: //p') --lib --test e2e --test kernel --test link $(ARGS)

test-miri:  ## unit tests of the packet library under Miri (needs a nightly toolchain with it); takes minutes
	@cargo +nightly miri --version >/dev/null 2>&1 || { echo "test-miri: Miri is missing: rustup toolchain install nightly --component miri,rust-src" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=$${PROPTEST_CASES:-1} cargo +nightly miri test --locked \
		--package flannel-packet --target-dir target/miri --lib $(ARGS)

msrv:  ## build with the oldest Rust that Cargo.toml allows (rustup fetches it)
	rustup toolchain install --profile minimal $(MSRV)
	cargo +$(MSRV) check --locked --target-dir target/msrv $(or $(ARGS),--workspace --all-features --lib --bins)

doc:  ## the library's documentation, under target/doc
	$(CARGO) doc --locked --no-deps

man:  ## manual pages and shell completions, under target/generated
	@scripts/setup.sh build
	@scripts/build.sh >/dev/null

install:  ## install what `make build man` built: PREFIX=/usr/local, DESTDIR= for packagers
	@scripts/install.sh install

uninstall:  ## remove what `make install` installed, except the options in /etc
	@scripts/install.sh uninstall

deb:  ## a Debian package and one with its debug symbols, under target/debian
	@scripts/setup.sh build deb
	scripts/deb.sh $(ARGS)

rpm:  ## an RPM package and one with its debug symbols, under target/rpm/RPMS
	@scripts/setup.sh build rpm
	scripts/rpm.sh $(ARGS)

static:  ## the program for musl, statically linked: target/static/ARCH/flannel-udp (ARGS="x86_64 aarch64")
	scripts/static.sh $(ARGS)

image:  ## a container image of the static program, as an OCI archive: target/image (ARGS="x86_64 aarch64")
	scripts/image.sh $(ARGS)

clean:  ## remove everything that was built
	$(CARGO) clean

.PHONY: help setup build static image demo bench bench-tunnels profile check test test-long test-docker test-static test-systemd lint doc man install uninstall deb rpm clean fuzz public-api test-arch \
	test-loom test-asan test-miri msrv
