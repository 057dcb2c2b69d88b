# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a host per test, on the real Cloud Hypervisor and on the stand-in.

Nothing is skipped silently: what could not be run is printed at the end with its reason, and
CLOISTER_MUST=kvm,ch,root,linux makes such a skip a failure.
"""
import os

import pytest

import harness

MUST = {w for w in os.environ.get("CLOISTER_MUST", "").replace(",", " ").split() if w}
_left_out = {}


def need(what):
    """Skips the calling test unless `what` is there, or fails it when it must be."""
    reasons = {
        "root": (os.geteuid() == 0, "not run as root"),
        "kvm": (harness.have_kvm(), "/dev/kvm is not usable"),
        "ch": (harness.REAL is not None, "no cloud-hypervisor on PATH"),
        "linux": (harness.LINUX_GUEST is not None, "CLOISTER_LINUX_GUEST names no guest"),
    }
    there, reason = reasons[what]
    if there:
        return
    if what in MUST:
        pytest.fail(f"CLOISTER_MUST asks for {what}, but: {reason}")
    _left_out.setdefault(reason, 0)
    _left_out[reason] += 1
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter):
    for reason, count in _left_out.items():
        terminalreporter.write_line(f"left out: {count} system test cases: {reason}")


def pytest_generate_tests(metafunc):
    # A test that takes `host` runs on both VMMs unless it is marked for one.
    if "vmm_name" in metafunc.fixturenames:
        marks = {m.name for m in metafunc.definition.iter_markers()}
        names = ["standin"] if "standin" in marks else ["ch"] if "ch" in marks else ["standin", "ch"]
        metafunc.parametrize("vmm_name", names)


@pytest.fixture
def vmm(vmm_name):
    """(path, name) of the VMM under test."""
    need("root")
    if vmm_name == "ch":
        need("ch")
        need("kvm")
        return harness.REAL, "ch"
    return harness.STANDIN, "standin"


@pytest.fixture
def make_host(vmm):
    """Makes hosts that are closed, and checked for residue, after the test."""
    hosts = []

    def make(start=True, **options):
        host = harness.Host(vmm[0], vmm[1], **options)
        hosts.append(host)
        return host.start() if start else host

    yield make
    errors = []
    for host in hosts:
        try:
            host.close()
        except Exception as error:  # each host is closed, whatever another one says
            errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def host(make_host):
    return make_host()
