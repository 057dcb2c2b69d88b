# SPDX-License-Identifier: Apache-2.0
"""What runs out: descriptors, room on disk, uids, memory. The client is told, the VMs run on, and
when there is some again everything works."""
import contextlib
import fcntl
import os
import struct
import subprocess
import sys

import pytest

import harness
from harness import alive, wait_for

sys.path.insert(0, os.path.join(harness.TOP, "tests", "faults"))
import matrix  # noqa: E402
import nomem  # noqa: E402

pytestmark = pytest.mark.standin
F_OFD_SETLK = 37
SOAK = bool(os.environ.get("CLOISTER_SOAK"))


@pytest.fixture
def series(vmm):
    one = matrix.Series(*vmm)
    try:
        yield one
    except BaseException:
        one.close(check=False)
        raise
    one.close()


SET_LIMIT = """
import resource, sys
pid, soft = int(sys.argv[1]), int(sys.argv[2])
hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft if soft >= 0 else hard, hard))
"""


def set_limit(pid, soft):
    """As the user that it runs as: root need not be allowed to. -1: all that it may have."""
    with open(f"/proc/{pid}/status") as f:
        ids = {line.split()[0]: int(line.split()[1]) for line in f
               if line.startswith(("Uid:", "Gid:"))}
    subprocess.run([sys.executable, "-c", SET_LIMIT, str(pid), str(soft)], user=ids["Uid:"],
                   group=ids["Gid:"], extra_groups=[], check=True)


@contextlib.contextmanager
def few_descriptors(pid, more):
    """Of those that pid has not open yet it gets `more`: the lowest free numbers."""
    taken = {int(n) for n in os.listdir(f"/proc/{pid}/fd")}
    free = [n for n in range(len(taken) + more + 1) if n not in taken]
    set_limit(pid, free[more])
    try:
        yield
    finally:
        if alive(pid):
            set_limit(pid, -1)


OPERATIONS = ["create-rich", "hibernate"]
OPERATIONS += ["snapshot", "wake", "connect", "destroy"] if SOAK else []


@pytest.mark.parametrize("role", ["supervisor", "spawner", "shim"])
def test_no_descriptors(series, role):
    """From none up to some. Whoever cannot go on may end: cloisterd is started again then."""
    for name in OPERATIONS:
        operation = matrix.OPERATIONS[name]
        if role == "shim" and operation.born:
            continue  # its limit is the spawner's
        for more in range(9) if SOAK else (1, 5):
            series.ensure(operation)
            before = series.box()
            pid, _ = series.target(operation, role)
            with few_descriptors(pid, more):
                status = operation.run(series)
            told = (name, more, status, series.told)
            assert status is matrix.LOST or status in (101, 200, 201, 500, 502, 503, 504, 507), told
            series.revive()
            series.check_bystander()
            box = series.settled()
            if before["state"] in matrix.LIVE and role != "shim" and \
                    box["state"] in matrix.LIVE:
                assert box["vmm"]["pid"] == before["vmm"]["pid"], told
            assert box["state"] in ("running", "paused", "hibernated", "gone", "failed") or \
                role == "shim", (told, box)
            series.drop(matrix.MADE)
            series.check_alive(box)
            if role == "shim" and box["state"] != "gone":
                # What it could not even open to remove goes with the next set, or the sandbox.
                series.remove_subject()
            series.check_residue()


@contextlib.contextmanager
def small(path, size):
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=200,mode=755", "small", path],
                   check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path):
    """Every page, and with many small files every inode."""
    name = os.path.join(path, "filler")
    os.mkdir(name)
    with open(os.path.join(name, "f"), "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(4096))
    with contextlib.suppress(OSError):
        for i in range(200):
            open(os.path.join(name, str(i)), "wb").close()
    return name


def no_mounts_of_ours(host):
    return [r for r in host.residue() if not r.startswith("mount in self")]


@pytest.mark.parametrize("which", ["run_dir", "state_dir"])
def test_full(make_host, which):
    host = make_host(start=False)
    with small(getattr(host, which), "4m"):
        host.start()
        one = host.create(id="one", cmdline="tick=10")
        filler = fill(getattr(host, which))
        for _ in range(3):
            answer = host.api("POST", "/v1/sandboxes", {"kernel": "tiny", "memory_mib": 32,
                                                        "id": "two"})
            assert answer.status in (500, 507), answer
            assert [b["id"] for b in host.list()] == ["one"]
        # What runs goes on, and can be ended.
        host.act("one", "pause")
        assert host.act("one", "resume")["vmm"] == one["vmm"]
        host.destroy("one")
        subprocess.run(["rm", "-r", filler], check=True)
        host.create(id="two")
        host.destroy("two")
        wait_for(lambda: no_mounts_of_ours(host) == [], what="nothing left")
        host.stop()


def test_all_uids_are_taken(host):
    """By whom does not matter: a uid is free when its byte of the file is not locked."""
    one = host.create(id="one")
    with open(os.path.join(host.run_dir, "uids"), "r+b") as f:
        locked = []
        for at in range(host.uid_base, host.uid_base + 512):
            with contextlib.suppress(BlockingIOError, PermissionError):
                fcntl.fcntl(f.fileno(), F_OFD_SETLK,
                            struct.pack("hhlli4x", fcntl.F_WRLCK, 0, at, 1, 0))
                locked.append(at)
        # But for the one that runs.
        assert len(locked) == 511
        answer = host.api("POST", "/v1/sandboxes", {"kernel": "tiny", "memory_mib": 32,
                                                    "id": "two"})
        assert answer.status == 429 and "uid" in answer.json["detail"], answer
        assert [b["id"] for b in host.list()] == ["one"]
        host.act("one", "pause")
        assert host.act("one", "resume")["vmm"] == one["vmm"]
    host.create(id="two")


@pytest.fixture
def poor(vmm):
    one = nomem.Series(*vmm)
    try:
        yield one
        assert not one.failures, "\n".join(one.failures)
    except BaseException:
        one.close(check=False)
        raise
    one.close()


# make soak has each of them, and more operations.
STRIDES = {"supervisor": 127, "spawner": 7, "shim": 127}


@pytest.mark.skipif(harness.SANITIZED, reason="a sanitizer has its own malloc")
@pytest.mark.parametrize("role", nomem.ROLES)
@pytest.mark.parametrize("name", ["create-rich", "hibernate"] if SOAK else ["create-rich"])
def test_no_memory(poor, name, role, record_steps):
    operation, at, cells = matrix.OPERATIONS[name], 1, 0
    while poor.cell(operation, role, at, "fail")[1]:
        at += STRIDES[role]
        cells += 1
    record_steps(f"{name} {role}: every {STRIDES[role]}th of up to {at} allocations, {cells} struck")
