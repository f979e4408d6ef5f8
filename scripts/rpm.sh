#!/usr/bin/env bash
# Makes an RPM package and one with its debug symbols under target/rpm/RPMS, with rpmbuild: of the program, the
# manual pages and the completions as they are built now, in the profile PROFILE (default: release).
#
#   PROFILE=checked scripts/rpm.sh [arguments for rpmbuild]
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(scripts/build.sh)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
rm -rf target/rpm
rpmbuild -bb --quiet --define "_topdir $PWD/target/rpm" --define "source $PWD" --define "version $version" \
    --define "program $program" "$@" packaging/rpm/flannel-udp.spec
ls target/rpm/RPMS/*/*.rpm
