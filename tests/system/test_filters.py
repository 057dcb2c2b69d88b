# SPDX-License-Identifier: Apache-2.0
"""The seccomp filters of our own processes: each row is needed, and what has none ends the process.

common/filters/ROLE.def holds the rows; tests/filters/follow.c is the tracer that looks.
"""
import collections
import contextlib
import os
import signal
import subprocess
import sys

import pytest

import harness
from harness import alive, wait_for

BUILD = os.path.join(harness.TOP, "build")
FOLLOW = os.path.join(BUILD, "tests", "filters", "follow")
KEYCTL = 250  # in no table
NO_ROW = 0x1fff
ROLES = ["spawner", "setup", "serving", "supervisor", "client", "import"]

pytestmark = pytest.mark.standin


def inject(pid, nr=KEYCTL):
    """Has the process call nr, and tells how it ended."""
    done = subprocess.run([FOLLOW, "inject", str(pid), str(nr)], capture_output=True, text=True,
                          timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def filters(pid):
    found = status(pid)
    assert found["Seccomp"] == "2" and found["NoNewPrivs"] == "1"
    return int(found["Seccomp_filters"])


def test_each_process_is_under_its_filters(host):
    host.create(id="one", cmdline="tick=0")
    spawner, = host.spawner_pids()
    shim, = host.shim_pids("admin:one")
    assert filters(spawner) == 1
    assert filters(shim) == 3  # the spawner's, that of set-up, that of serving
    assert filters(host.daemon.pid) == 1


def test_a_denied_call_ends_a_shim(host):
    events = host.events()
    host.create(id="other", cmdline="tick=10")
    box = host.create(id="one", cmdline="tick=10")
    shim, = host.shim_pids("admin:one")
    assert inject(shim) == f"signal {signal.SIGSYS}"
    wait_for(lambda: not alive(box["vmm"]["pid"]), what="the VMM's end")
    assert events.wait(sandbox="one", to="crashed")["exit"]["cause"] == "shim-lost"
    wait_for(lambda: "seccomp" in host.get("one")["exit"]["detail"], what="the reason")
    assert "one: its shim made a system call that its seccomp filter does not allow" in host.log()
    assert host.get("other")["state"] == "running"


def test_a_denied_call_ends_the_spawner(host):
    box = host.create(id="one", cmdline="tick=10")
    spawner, = host.spawner_pids()
    assert inject(spawner) == f"signal {signal.SIGSYS}"
    assert host.daemon.wait(10) == 1
    assert "the spawner made a system call that its seccomp filter does not allow" in host.log()
    assert alive(box["vmm"]["pid"])
    host.start()
    assert host.get("one")["state"] == "running"


def test_a_denied_call_ends_cloisterd(host):
    box = host.create(id="one", cmdline="tick=10")
    spawners = host.spawner_pids()
    # Its parent is this process, which may not reap it before the tracer has.
    assert inject(host.daemon.pid) == f"signal {signal.SIGSYS}"
    assert host.daemon.wait(10) == -signal.SIGSYS
    wait_for(lambda: not any(alive(p) for p in spawners), what="the spawner's end")
    assert alive(box["vmm"]["pid"])
    host.start()
    assert host.get("one")["state"] == "running"


def test_a_denied_call_ends_the_client(host):
    client = subprocess.Popen([os.path.join(harness.BUILD, "cloister"), "-s", host.control, "events"],
                              stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: status(client.pid).get("Seccomp") == "2", what="its filter")
        assert filters(client.pid) == 1
        assert inject(client.pid) == f"signal {signal.SIGSYS}"
        assert client.wait(10) == -signal.SIGSYS
    finally:
        client.kill()
        client.wait(10)


def test_a_build_that_traps_names_the_call(make_host, monkeypatch):
    if harness.SANITIZED:
        pytest.skip("no such build with sanitizers")
    monkeypatch.setattr(harness, "BUILD", os.path.join(BUILD, "trap"))
    host = make_host()
    host.create(id="one", cmdline="tick=0")
    shim, = host.shim_pids("admin:one")
    assert inject(shim) == f"signal {signal.SIGSYS}"
    wait_for(lambda: "seccomp: the serving filter has no keyctl (250): arguments 0x" in host.log(),
             what="its name")
    host.wait_state("one", "crashed")
    assert inject(host.daemon.pid, 57) == f"signal {signal.SIGSYS}"
    host.daemon.wait(10)
    assert "seccomp: the supervisor filter has no fork (57)" in host.log()
    host.start()
