# SPDX-License-Identifier: Apache-2.0
"""Processes that stand still in the midst of an operation: answers come within their deadlines, and
a destroy ends what is left within its own.
"""
import contextlib
import fcntl
import os
import signal
import sys
import time

import pytest

import diskmodel
import harness
from harness import wait_for

sys.path.insert(0, os.path.join(harness.TOP, "tests", "faults"))
import matrix  # noqa: E402

pytestmark = pytest.mark.standin
SHORT = "create_ms = 700\ndisks_ms = 300\npause_ms = 400\nresume_ms = 400\nsnapshot_ms = 700\nshutdown_ms = 300\n" \
        "power_button_ms = 300\ndestroy_ms = 1000"
SOAK = bool(os.environ.get("CLOISTER_SOAK"))
once = pytest.mark.skipif(harness.SANITIZED, reason="waits only, and did in the other build")
# What the deadlines of an operation come to, and room for a machine that is busy.
IN_TIME = 6
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


@pytest.fixture
def series(vmm):
    one = matrix.Series(*vmm, options=SHORT)
    try:
        yield one
    except BaseException:
        one.close(check=False)
        raise
    one.close()


def timed(call):
    start = time.monotonic()
    result = call()
    took = time.monotonic() - start
    assert took < IN_TIME, f"took {took:.1f} s: {result}"
    return result


# It is waiting that takes the time of these: the rest of them is for make soak.
MIDST = ["create-copy", "hibernate", "wake"]
MORE_MIDST = ["pause", "resume", "snapshot", "balloon", "resize", "connect"] if SOAK else []


@once
@pytest.mark.parametrize("name", MIDST + MORE_MIDST)
def test_stopped_in_the_midst(series, name):
    operation = matrix.OPERATIONS[name]
    for role in ("shim", "vmm"):
        tracer, _ = series.cell(operation, role, None, None)
        assert not series.failures
        for at in sorted({1, tracer.count // 2, tracer.count} - {0} if SOAK else
                         {tracer.count // 2}):
            series.ensure(operation)
            _, status = timed(lambda n=at: series.strike(operation, role, n, "stop"))
            assert status is not matrix.LOST or name == "connect", (role, at)
            series.check_bystander()
            timed(series.remove_subject)
            series.drop(matrix.MADE)
            series.check_residue()


@once
@pytest.mark.parametrize("role", ["shim", "vmm"])
def test_stopped_before(series, role):
    """A destroy of what does not move at all, whatever was asked before."""
    for ask in (None, "pause", "hibernate", "snapshot") if SOAK else (None, "snapshot"):
        series.ensure(matrix.OPERATIONS["pause"])
        pid, _ = series.target(matrix.OPERATIONS["pause"], role)
        os.kill(pid, signal.SIGSTOP)
        if ask:
            body = {"template": matrix.MADE} if ask == "snapshot" else None
            status = timed(lambda a=ask, b=body: series.post(f"/v1/sandboxes/x/{a}", b))
            assert status in (502, 504), (ask, series.told)
        timed(series.remove_subject)
        series.check_bystander()
        series.check_residue()


DRIBBLED = {"pause": "vm.pause", "resume": "vm.resume", "snapshot": "vm.snapshot",
            "hibernate": "vm.snapshot", "resize": "vm.resize", "power-button": "vm.power-button"}


@once
def test_an_api_that_dribbles(make_host):
    """A byte now and then is no sign of life: only the deadline counts."""
    host = make_host(limits=SHORT)
    answer = timed(lambda: host.api("POST", "/v1/sandboxes", {
        "id": "one", "kernel": "tiny", "memory_mib": 32,
        "cmdline": "standin:vm.boot=dribble:100"}))
    assert answer.status == 504 and host.list() == [], answer
    for action, endpoint in DRIBBLED.items():
        host.create(id="one", cmdline=f"tick=0 standin:{endpoint}=dribble:100", max_vcpus=2)
        if action == "resume":
            host.act("one", "pause")
        body = {"template": "t"} if action == "snapshot" else \
            {"vcpus": 2} if action == "resize" else None
        answer = timed(lambda a=action, b=body: host.api("POST", f"/v1/sandboxes/one/{a}", b))
        assert answer.status == 504, (action, answer)
        last = timed(lambda: host.destroy("one"))
        assert last["exit"]["cause"] in ("destroyed", "vmm-error"), last
        assert host.residue() == [], action


@contextlib.contextmanager
def frozen(path):
    """Whoever writes to that file system sleeps, and no signal wakes it (fsfreeze(8))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.ioctl(fd, FIFREEZE, 0)
    try:
        yield
    finally:
        fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)


def state_of(pid):
    """Of each of its threads."""
    found = ""
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/stat") as f:
            found += f.read().rsplit(")", 1)[1].split()[0]
    return found


@pytest.mark.fs("ext4", only=True)
def test_uninterruptible_sleep(make_disk_host, fs):
    """A VMM that writes to a frozen file system cannot be killed until that thaws."""
    host = make_disk_host(limits=SHORT)
    diskmodel.make_image(host, "disk", [(0, 64, 1)], 1 << 20)
    other = host.create(id="other", cmdline="tick=10")
    pid = host.create(id="one", cmdline="tick=0", disks=[{"image": "disk"}])["vmm"]["pid"]
    host.wait_console("one", "GUEST UP")
    with frozen(fs):
        host.send("one", "dwrite 0 0 8 1\n")
        wait_for(lambda: "D" in state_of(pid), what="a VMM that sleeps uninterruptibly")
        answer = timed(lambda: host.api("DELETE", "/v1/sandboxes/one"))
        assert answer.status == 500, answer
        assert "uninterruptible" in answer.json["detail"], answer
        assert host.get("one")["state"] == "failed"
        # The others do not notice.
        host.act("other", "pause")
        assert host.act("other", "resume")["vmm"] == other["vmm"]
        again = timed(lambda: host.api("DELETE", "/v1/sandboxes/one"))
        assert again.status == 500, again
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="the VMM's end")
    assert host.destroy("one")["state"] == "destroying"
    host.destroy("other")
    assert host.residue() == []
