#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make check: every test case once; unit and stand-in tests under ASan+UBSan as well. Goes on after a
# failure, so that one run tells all, and prints at the end what failed and what was left out.
set -u
cd "$(dirname "$0")/.." || exit 1

failures=$(mktemp)
logs=$(mktemp -d)
trap 'rm -rf "$failures" "$logs"' EXIT
left_out=""
python=/usr/bin/python3
pytest="$python -m pytest -q -rs -p no:cacheprovider"
started=$(date +%s)
not_sanitized="test_faults or caps or hardening or unit or landlock or filters or races"

fail() { # what
    printf '  %s\n' "$1" >>"$failures"
}

step() { # name, command...
    name=$1
    shift
    printf '\n== %s\n' "$name"
    before=$(date +%s)
    "$@" </dev/null || fail "$name"
    printf -- '-- %s: %s s\n' "$name" "$(($(date +%s) - before))"
}

# System tests wait much more than they compute: lanes beside each other take little longer than the
# longest. What each of them said comes at the end.
lanes() { # functions
    for lane in "$@"; do
        "$lane" >"$logs/$lane" 2>&1 &
    done
    wait
    for lane in "$@"; do
        cat "$logs/$lane"
    done
}

skip() { # what, why
    left_out="$left_out
  $1: $2"
}

must() { # is the word in CLOISTER_MUST?
    case ",${CLOISTER_MUST-}," in *",$1,"*) return 0 ;; *) return 1 ;; esac
}

lack() { # word of CLOISTER_MUST, what, why
    if must "$1"; then
        fail "$2: CLOISTER_MUST asks for $1, but $3"
    else
        skip "$2" "$3"
    fi
}

unit() {
    step "unit tests" make -s unit
}
unit_sanitized() {
    step "unit tests, ASan+UBSan" make -s SAN=1 OPT=-O1 unit
    step "fuzz corpora, ASan+UBSan" make -s SAN=1 OPT=-O1 fuzz-corpora
}
filters() {
    step "each row of the seccomp filters" $pytest tests/system/test_filters.py -k every_row
}
system_real() {
    step "system tests, real Cloud Hypervisor" \
        $pytest tests/system -k "not standin"
}
system_faults() {
    step "system tests, stand-in: faults" \
        $pytest tests/system -k "standin and test_faults"
}
model() {
    step "the stand-in against its model" $pytest tests/standin tests/preload
}
# The shorter of the lanes have these as well.
model_and_faults() {
    model
    system_faults
}
system_standin() { # part
    step "system tests, stand-in, part $1" env CLOISTER_PART="$1" \
        $pytest tests/system -k "standin and not (every_row or test_faults)"
}
standin_1() { system_standin 1/2; }
standin_2() { system_standin 2/2; }
# Without those that are about how the programs are compiled, or about the kernel's word on them.
system_sanitized() { # part
    step "system tests, stand-in, ASan+UBSan, part $1" \
        env CLOISTER_PART="$1" CLOISTER_BUILD=build/san $pytest tests/system \
        -k "standin and not ($not_sanitized)"
}
sanitized_1() { system_sanitized 1/2; }
sanitized_2() { system_sanitized 2/2; }

step "build" make -s -j2 all test-programs
[ ! -s "$failures" ] || { echo "the build failed"; exit 1; }
step "build with ASan+UBSan" make -s -j2 SAN=1 OPT=-O1 all test-programs
if [ "$(id -u)" = 0 ]; then
    lanes unit unit_sanitized filters
    lanes system_real model_and_faults standin_1 standin_2 sanitized_1 sanitized_2
    skip "with ASan+UBSan: $not_sanitized" "they are in make soak"
else
    lanes unit unit_sanitized
    model
    lack root "system tests" "not run as root"
fi
command -v cloud-hypervisor >/dev/null || lack ch "real Cloud Hypervisor" "it is not on PATH"
[ -w /dev/kvm ] || lack kvm "real Cloud Hypervisor" "/dev/kvm is not usable"
[ -n "${CLOISTER_LINUX_GUEST-}" ] ||
    lack linux "the Linux guest" "CLOISTER_LINUX_GUEST names no directory"
skip "clang, the fuzzers, the random soak, repeated restarts" "they are in make soak"

printf '\nmake check took %s s\n' "$(($(date +%s) - started))"
[ -z "$left_out" ] || printf 'left out:%s\n' "$left_out"
if [ -s "$failures" ]; then
    echo "FAILED:"
    cat "$failures"
    exit 1
fi
echo "all passed"
