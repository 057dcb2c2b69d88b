# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a host per test, on the real Cloud Hypervisor and on the stand-in.

Nothing is skipped silently: what could not be run is printed at the end with its reason, and
CLOISTER_MUST=kvm,ch,root,linux,landlock,ext4,xfs,btrfs makes such a skip a failure. With CLOISTER_SOAK=1
what else is tried on one file system is tried on each. CLOISTER_PART=1/2 runs the first half of the tests.
"""
import os
import shutil

import pytest

import filesystems
import harness

MUST = {w for w in os.environ.get("CLOISTER_MUST", "").replace(",", " ").split() if w}
SOAK = bool(os.environ.get("CLOISTER_SOAK"))
PART, PARTS = (int(n) for n in os.environ.get("CLOISTER_PART", "1/1").split("/"))
_left_out = {}
_steps = []


def need(what):
    """Skips the calling test unless `what` is there, or fails it when it must be."""
    tool = what.removeprefix("tool:")
    reasons = {
        what: (shutil.which(tool) is not None, f"no {tool} on PATH"),
        "root": (os.geteuid() == 0, "not run as root"),
        "kvm": (harness.have_kvm(), "/dev/kvm is not usable"),
        "ch": (harness.REAL is not None, "no cloud-hypervisor on PATH"),
        "landlock": (harness.landlock_abi() > 0, "the kernel has no Landlock"),
        "cgroup": (harness.CGROUP_MOUNT is not None, "no cgroup v2 is mounted"),
        "linux": (harness.LINUX_GUEST is not None, "CLOISTER_LINUX_GUEST names no guest"),
    }
    if what in filesystems.KINDS:
        reason = filesystems.why_not(what)
        there = reason is None
    else:
        there, reason = reasons[what]
    if there:
        return
    if what in MUST:
        pytest.fail(f"CLOISTER_MUST asks for {what}, but: {reason}")
    _left_out.setdefault(reason, 0)
    _left_out[reason] += 1
    pytest.skip(reason)


def pytest_sessionfinish():
    filesystems.close()


def pytest_terminal_summary(terminalreporter):
    for reason, count in _left_out.items():
        terminalreporter.write_line(f"left out: {count} system test cases: {reason}")
    for line in _steps:
        terminalreporter.write_line(line)


@pytest.fixture
def record_steps():
    """Takes a line that is printed at the end."""
    return _steps.append


def pytest_generate_tests(metafunc):
    # A test that takes `host` runs on both VMMs unless it is marked for one.
    if "vmm_name" in metafunc.fixturenames:
        marks = {m.name for m in metafunc.definition.iter_markers()}
        names = ["standin"] if "standin" in marks else ["ch"] if "ch" in marks else ["standin", "ch"]
        metafunc.parametrize("vmm_name", names)
    # And one that takes `fs` on every file system, unless it is marked for some. Sanitizers have
    # nothing to see in btrfs that is not in xfs: both share blocks.
    if "fs_kind" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("fs")
        fewer = mark and (mark.kwargs.get("only") or not SOAK)
        every = filesystems.KINDS if SOAK or not harness.SANITIZED else ("ext4", "xfs")
        metafunc.parametrize("fs_kind", mark.args if fewer else every)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """After -k: what sanitizers take, and of that this process's part, test by test in turn."""
    keep(config, items, fewer(items))
    names = list(dict.fromkeys(item.nodeid.split("[")[0] for item in items))
    mine = {name for i, name in enumerate(names) if i % PARTS == PART - 1}
    keep(config, items, [item for item in items if item.nodeid.split("[")[0] in mine])


def keep(config, items, kept):
    left = [item for item in items if item not in kept]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def fewer(items):
    """
    Sanitizers slow every start: of a test that has many cases they run the first two and then every
    fifth, but for the soak. All of them run in the plain build.
    """
    if SOAK or not harness.SANITIZED:
        return list(items)
    seen, kept = {}, []
    for item in items:
        name = item.nodeid.split("[")[0]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] <= 2 or seen[name] % 5 == 0:
            kept.append(item)
    if len(kept) < len(items):
        _steps.append(f"left out with sanitizers: {len(items) - len(kept)} further cases of tests "
                      "with many")
    return kept


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
def make_host(vmm, request):
    """Makes hosts that are closed, and checked for residue, after the test."""
    hosts = []

    def make(start=True, **options):
        host = harness.Host(vmm[0], vmm[1], **options)
        if request.node.get_closest_marker("bare"):
            host.binary = harness.BARE
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
def fs(fs_kind):
    """The directory of a file system for tests; fs_kind says of which kind."""
    need("root")
    need(fs_kind)
    return filesystems.mounts().get(fs_kind)


@pytest.fixture
def make_disk_host(make_host, vmm, fs):
    """Makes hosts whose state_dir is on `fs` and whose VMM can make snapshots."""
    # Some hosts' KVM cannot save a vCPU's nested state; the preload answers that it is empty.
    preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}\n"

    def make(state_root=fs, vmm_config="", **options):
        return make_host(state_root=state_root,
                         vmm_config=vmm_config + (preload if vmm[1] == "ch" else ""), **options)
    return make


@pytest.fixture
def disk_host(make_disk_host):
    return make_disk_host()


@pytest.fixture
def host(make_host):
    return make_host()
