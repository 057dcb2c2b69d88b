#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make soak: what takes too long for make check. Run before an issue is resolved.
set -eu
cd "$(dirname "$0")/.."
python=/usr/bin/python3

echo "== build, unit tests and stand-in tests with clang"
make -s -j2 all test-programs
make -s -j2 CC=clang B=build/clang all test-programs
make -s CC=clang B=build/clang unit
CLOISTER_BUILD=build/clang $python -m pytest -q -p no:cacheprovider tests/system -k standin

echo "== fuzzers"
make -s fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-20}"

echo "== disks, on every file system"
CLOISTER_SOAK=1 $python -m pytest -q -p no:cacheprovider tests/system -k disk

echo "== capabilities, without each of them"
CLOISTER_SOAK=1 $python -m pytest -q -p no:cacheprovider tests/system/test_caps.py

echo "== the whole matrix of faults"
CLOISTER_SOAK=1 $python -m pytest -q -p no:cacheprovider tests/system -k "faults and standin"
$python tests/faults/run.py
$python tests/faults/run.py --how fail
$python tests/faults/run.py --nomem
if command -v cloud-hypervisor >/dev/null && [ -w /dev/kvm ]; then
    $python tests/faults/run.py --vmm ch --roles supervisor,spawner,shim
fi

echo "== what make check leaves out of the sanitized system tests"
make -s -j2 SAN=1 OPT=-O1 all test-programs
CLOISTER_BUILD=build/san $python -m pytest -q -p no:cacheprovider tests/system \
    -k "standin and (test_faults or caps or unit or landlock or filters or races)"

echo "== random operations"
$python tests/soak/soak.py --operations "${SOAK_OPERATIONS:-1000}"
make -s -j2 SAN=1 OPT=-O1 all
CLOISTER_BUILD=build/san $python tests/soak/soak.py --operations "${SOAK_OPERATIONS:-1000}"

echo "== restarts under load"
$python tests/soak/restarts.py --count "${SOAK_RESTARTS:-1000}"

echo "soak: all passed"
