# SPDX-License-Identifier: Apache-2.0
"""A sample of the matrix of faults (tests/faults/matrix.py); make soak runs all of it.

Processes are killed right before or right after a step; under the sanitizers, which are to see the
ways of failure, the step fails instead. Which steps are taken is always the same.
"""
import os
import sys
import zlib

import pytest

import harness

sys.path.insert(0, os.path.join(harness.TOP, "tests", "faults"))
import matrix  # noqa: E402

pytestmark = pytest.mark.standin
HOWS = ("fail",) if harness.SANITIZED else ("before", "after")


@pytest.fixture
def series(vmm):
    one = matrix.Series(*vmm)
    done = False
    try:
        yield one
        done = not one.failures
    finally:
        one.close(check=done)
    assert not one.failures, "\n".join(one.failures)


def sample(count, name):
    """The last step, and one of the others (more where there are many)."""
    parts = 2 + count // 60
    start = zlib.crc32(name.encode()) % max(1, count)
    return sorted({count, *((start + i * count // parts) % count + 1 for i in range((parts + 1) // 2))})


@pytest.mark.parametrize("name", matrix.OPERATIONS)
def test_sample(series, name, record_steps):
    operation = matrix.OPERATIONS[name]
    for role in operation.roles:
        tracer, _ = series.cell(operation, role, None,
                                "fallible" if harness.SANITIZED else None)
        assert tracer, series.failures
        before = series.cells
        for n, at in enumerate(sample(tracer.count, name + role) if tracer.count else []):
            # The supervisor's writer has more or less to do, as it comes.
            while at and not series.cell(operation, role, at, HOWS[n % len(HOWS)])[1]:
                at //= 2
        record_steps(f"{name} {role}: {tracer.count} steps, {series.cells - before} struck")


def step_called(tracer, name):
    return next(n for n, step in enumerate(tracer.steps, 1) if name in step)


@pytest.mark.skipif(harness.SANITIZED, reason="the same with other words")
@pytest.mark.parametrize("role,name", [("shim", 'openat "used"'), ("shim", 'unlinkat "ram"')])
def test_wake_that_fails_too_late(series, role, name):
    """Its guest may have run: it is not hibernated any more, and says so."""
    operation = matrix.OPERATIONS["wake"]
    # How many steps there are before it varies: until it is the one that is struck.
    for _ in range(10):
        tracer, _ = series.cell(operation, role, None, None)
        series.ensure(operation)
        struck, status = series.strike(operation, role, step_called(tracer, name), "after")
        if name in (struck.hit or ""):
            break
        series.recover()
    assert name in struck.hit
    assert status >= 500 and "cannot be woken again" in series.told.json["detail"], series.told
    box = series.box()
    assert box["state"] == "crashed" and box["exit"]["cause"] == "shim-lost", box
    assert series.post("/v1/sandboxes/x/wake") == 409
    # What the next cloisterd makes of it.
    series.host.stop()
    series.host.start()
    box = series.box()
    assert box["state"] == "crashed" and box["exit"]["cause"] == "shim-lost", box


def test_request_that_cannot_be_sent(series):
    """To the VMM's API: it will not be answered, and nobody waits until the deadline."""
    operation = matrix.OPERATIONS["wake"]
    tracer, _ = series.cell(operation, "shim", None, "fallible")
    to_vmm = [n for n, step in enumerate(tracer.steps, 1) if step.startswith("sendmsg")][:-1]
    assert len(to_vmm) >= 3, tracer.steps
    for at in to_vmm:
        assert series.cell(operation, "shim", at, "fail")[1]
    assert not series.failures


@pytest.mark.skipif(harness.SANITIZED, reason="the same with other words")
def test_template_that_is_half_removed(series):
    """It is gone for all who look, and the next spawner takes the rest away."""
    operation = matrix.OPERATIONS["template-delete"]
    tracer, _ = series.cell(operation, "spawner", None, None)
    steps = [n for n, step in enumerate(tracer.steps, 1) if step.startswith("unlinkat")]
    assert len(steps) > 3, tracer.steps
    for at in steps:
        assert series.cell(operation, "spawner", at, "after")[1]


@pytest.mark.skipif(harness.SANITIZED, reason="the same with other words")
def test_create_without_a_spawner_leaves_no_record(series):
    operation = matrix.OPERATIONS["create"]
    series.ensure(operation)
    _, status = series.strike(operation, "spawner", 1, "before")
    assert status is matrix.LOST or status >= 500
    series.revive()
    assert series.settled()["state"] == matrix.GONE
    assert series.post("/v1/sandboxes", {"id": "x", **matrix.PLAIN}) == 201
