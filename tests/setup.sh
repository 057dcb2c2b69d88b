#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs from Debian's packages what building and testing take and what is missing here. Needs root
# only when something is missing. With "clang" as argument also what the second compiler takes.
set -eu

packages="gcc make libc6-dev libevent-dev libcjson-dev libcap-ng-dev libmd-dev libseccomp-dev
libinih-dev libmnl-dev libnftnl-dev libcmocka-dev iproute2 nftables python3 python3-pytest xz-utils
mount e2fsprogs xfsprogs btrfs-progs apparmor devscripts binutils systemd"
case "${1-}" in
clang) packages="$packages clang clang-format libclang-rt-14-dev mandoc" ;;
esac

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "these packages are missing, and installing them takes root:$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -y -q --no-install-recommends $missing
