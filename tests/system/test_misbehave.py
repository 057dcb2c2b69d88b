# SPDX-License-Identifier: Apache-2.0
"""A VMM (or shim) that answers wrongly, late or never: what the client is told, and what is left.

All on the stand-in, which takes its orders from the command line (tests/standin/orders.c), or from
its environment where they concern what comes before vm.create.
"""
import os
import signal
import threading
import time

import pytest

from harness import UnixConnection, wait_for

pytestmark = pytest.mark.standin

SHORT = "create_ms = 700\npause_ms = 400\nresume_ms = 400\nshutdown_ms = 300\n" \
        "power_button_ms = 300\ndestroy_ms = 1500"
REFUSED, LATE = 502, 504

# What each order makes of a start: at vmm.ping, vm.create, vm.info, vm.boot (None: nothing new, or
# no such thing: an answer without a body).
START = {
    "hang":                  (LATE, LATE, LATE, LATE),
    "drop":                  (REFUSED, None, REFUSED, REFUSED),
    "garbage":               (REFUSED, REFUSED, REFUSED, REFUSED),
    "half":                  (None, LATE, LATE, LATE),
    "halfclose":             (REFUSED, None, REFUSED, REFUSED),
    "length:-3":             (REFUSED, None, REFUSED, None),
    "nolength":              (REFUSED, None, REFUSED, None),
    "huge":                  (REFUSED, None, REFUSED, REFUSED),
    "status:418":            (None, REFUSED, REFUSED, REFUSED),
    "error:The_moon_is_red": (REFUSED, REFUSED, REFUSED, REFUSED),
    "fcerror":               (REFUSED, REFUSED, REFUSED, REFUSED),
    "exit:3":                (REFUSED, REFUSED, REFUSED, REFUSED),
    "signal:11":             (REFUSED, None, REFUSED, REFUSED),
    "abort":                 (None, None, REFUSED, REFUSED),
    "badjson":               (REFUSED, None, REFUSED, None),
    "100":                   (201, 201, 201, 201),
    "stderr:50":             (201, None, 201, 201),
    "badevent":              (201, None, 201, 201),
    "delay:50":              (201, None, 201, 201),
}
WORDS = {"exit:3": "status 3", "signal:11": "signal 11",
         "error:The_moon_is_red": "The moon is red", "status:418": "418"}
# Where it is clear which of the requests went wrong: they are sent at once, and CH keeps its
# answers back until it has done all of them, so of a silence nobody knows.
BLAMED = ("status:418", "error:The_moon_is_red")


def start_host(make_host, orders="", limits=SHORT):
    return make_host(limits=limits, vmm_config=f"env = STANDIN_ORDERS={orders}" if orders else "")


def try_create(host, order, endpoint, expect, cmdline=""):
    answer = host.api("POST", "/v1/sandboxes", {
        "id": "one", "kernel": "tiny", "memory_mib": 32, "cmdline": cmdline})
    told = (endpoint, order, answer)
    assert answer.status == expect, told
    if expect == 201:
        assert answer.json["state"] == "running", told
        host.destroy("one")
    else:
        assert answer.json["status"] == expect and answer.json["sandbox"] == "one", told
        assert WORDS.get(order, "") in answer.json["detail"], told
        if order in BLAMED:
            assert answer.json["detail"].startswith(endpoint + ": "), told
        # What the VMM says is cleaned before anybody reads it.
        assert all(" " <= c <= "~" for c in answer.json["detail"]), told
        assert host.api("GET", "/v1/sandboxes/one").status == 404, told
    assert host.residue() == [], told


@pytest.mark.parametrize("column, endpoint", enumerate(["vm.info", "vm.boot"], 2))
def test_start_goes_wrong(make_host, column, endpoint):
    host = start_host(make_host)
    for order, expected in START.items():
        if expected[column]:
            try_create(host, order, endpoint, expected[column], f"standin:{endpoint}={order}")
    host.create(id="one")  # and a good one is none the worse for it


@pytest.mark.parametrize("column, endpoint", enumerate(["vmm.ping", "vm.create"]))
def test_start_goes_wrong_early(make_host, column, endpoint):
    for order, expected in START.items():
        if expected[column]:
            host = start_host(make_host, f"standin:{endpoint}={order}")
            try_create(host, order, endpoint, expected[column])
            host.close()


# ------------------------------------------------------------------ pause


def advances(host, box):
    """The guest runs: its console grows."""
    before = host.console(box)
    wait_for(lambda: host.console(box) != before, what=f"output of {box}")


def test_pause_goes_wrong_and_the_guest_runs_on(make_host):
    host = start_host(make_host)
    cases = {  # status, may it be tried again with success?
        "hang": (LATE, False), "half": (LATE, False), "drop": (REFUSED, False),
        "garbage": (REFUSED, False), "halfclose": (REFUSED, False), "huge": (REFUSED, False),
        "status:418": (REFUSED, True), "error:The_moon_is_red": (REFUSED, True),
        "fcerror": (REFUSED, False), "100": (200, True), "stderr:50": (200, True),
        "badevent": (200, True), "dribble:1": (200, True), "delay:50": (200, True),
    }
    for order, (status, again) in cases.items():
        host.create(id="one", cmdline=f"tick=10 standin:vm.pause={order}@1")
        answer = host.api("POST", "/v1/sandboxes/one/pause")
        told = (order, answer)
        assert answer.status == status, told
        if status != 200:
            assert WORDS.get(order, "") in answer.json["detail"], told
            assert answer.json["detail"].startswith("vm.pause: "), told
            assert host.get("one")["state"] == "running", told
            assert host.api("POST", "/v1/sandboxes/one/pause").status in \
                ((200,) if again else (REFUSED, LATE)), told
        # Whatever became of its API, the VMM can be ended, and kindly if it still listens.
        host.destroy("one", query="grace_s=1" if order in ("error:The_moon_is_red", "hang", "drop")
                     else "")
        assert host.residue() == [], told


def test_pause_that_ends_the_vmm(make_host):
    host = start_host(make_host)
    for order, cause, code, sig in (("exit:3", "vmm-error", 3, None),
                                    ("signal:11", "vmm-killed", None, 11)):
        host.create(id="one", cmdline=f"standin:vm.pause={order}")
        answer = host.api("POST", "/v1/sandboxes/one/pause")
        assert answer.status == REFUSED, answer
        found = host.wait_state("one", "crashed")["exit"]
        assert (found["cause"], found["code"], found["signal"]) == (cause, code, sig)
        host.destroy("one")
        assert host.residue() == []


def test_pause_that_succeeds_too_late(make_host):
    """The client was told that it failed, so the guest must run."""
    host = start_host(make_host)
    host.create(id="one", cmdline="tick=10 standin:vm.pause=delay:900@1")
    answer = host.api("POST", "/v1/sandboxes/one/pause")
    assert answer.status == LATE and "did not answer in time" in answer.json["detail"]
    assert host.get("one")["state"] == "running"
    wait_for(lambda: "succeeded after its deadline" in host.log(), what="the late answer")
    advances(host, "one")
    # In order again.
    assert host.act("one", "pause")["state"] == "paused"
    before = host.console("one")
    assert host.act("one", "resume")["state"] == "running"
    wait_for(lambda: host.console("one") != before, what="output after the resume")


# ------------------------------------------------------------------ resume


def test_resume_goes_wrong_and_ends_the_vmm(make_host):
    """Neither running nor known to be paused: of no use, so it is ended and says why."""
    host = start_host(make_host)
    events = host.events()
    cases = {
        "hang": LATE, "half": LATE, "drop": REFUSED, "garbage": REFUSED, "halfclose": REFUSED,
        "huge": REFUSED, "status:418": REFUSED, "error:The_moon_is_red": REFUSED,
        "fcerror": REFUSED, "exit:3": REFUSED, "signal:11": REFUSED,
    }
    for n, (order, status) in enumerate(cases.items()):
        box = f"box{n}"
        pid = host.create(id=box, cmdline=f"standin:vm.resume={order}")["vmm"]["pid"]
        host.act(box, "pause")
        answer = host.api("POST", f"/v1/sandboxes/{box}/resume")
        told = (order, answer)
        assert answer.status == status, told
        if order not in ("exit:3", "signal:11"):
            assert WORDS.get(order, "") in answer.json["detail"], told
        event = events.wait(sandbox=box, to="failed")
        assert event["from"] == "paused" and event["exit"]["cause"] == "vmm-error", told
        record = host.wait_state(box, "failed")
        assert record["exit"] == event["exit"] and record["vmm"] is None, told
        assert (record["exit"]["code"], record["exit"]["signal"]) == {
            "exit:3": (3, None), "signal:11": (None, 11)}.get(order, (None, 9)), told
        # What the client was told stays on record.
        assert record["exit"]["detail"] == answer.json["detail"], told
        assert not os.path.exists(f"/proc/{pid}"), told
        assert "failed" in host.act(box, "resume", expect=409)["detail"]
        assert "GUEST UP" in host.console(box)
        host.destroy(box)
        assert host.residue() == [], told
    for order in ("100", "stderr:50", "badevent", "dribble:1", "delay:50"):
        host.create(id="one", cmdline=f"tick=10 standin:vm.resume={order}")
        host.act("one", "pause")
        assert host.act("one", "resume")["state"] == "running"
        advances(host, "one")
        host.destroy("one")


def test_one_operation_at_a_time(make_host):
    """What comes while a pause is under way is refused at once; a destroy is not."""
    host = start_host(make_host, limits="destroy_ms = 5000")
    host.create(id="one", cmdline="standin:vm.pause=hang")
    pause = UnixConnection(host.control)
    pause.request("POST", "/v1/sandboxes/one/pause")
    # Connections are taken in order: when this one is answered, the pause has begun.
    assert host.get("one")["state"] == "running"
    assert host.act("one", "power-button", expect=409)["status"] == 409
    assert "pause is under way" in host.act("one", "pause", expect=409)["detail"]
    assert host.get("one")["state"] == "running"
    assert host.destroy("one")["exit"]["cause"] == "destroyed"
    assert pause.getresponse().status in (409, REFUSED)
    pause.close()
    assert host.residue() == []


def test_power_button_goes_wrong(make_host):
    host = start_host(make_host)
    cases = {"hang": (LATE, "in time"), "error:The_moon_is_red": (REFUSED, "The moon is red"),
             "drop": (REFUSED, "closed"), "status:418": (REFUSED, "418"), "delay:50": (200, "")}
    for order, (status, words) in cases.items():
        host.create(id="one", cmdline=f"tick=10 standin:vm.power-button={order}")
        answer = host.api("POST", "/v1/sandboxes/one/power-button")
        assert answer.status == status and words in answer.json.get("detail", ""), (order, answer)
        assert host.get("one")["state"] == "running"
        if order != "hang":
            advances(host, "one")
        host.destroy("one")
    # A paused guest could not see it.
    host.create(id="one", cmdline="tick=10 acpi=on")
    host.act("one", "pause")
    assert host.act("one", "power-button", expect=409)["status"] == 409


# ------------------------------------------------------------------ floods, closed streams


def status_kib(pid, field):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("flood", ["stderrflood:40000", "stdoutflood:40000", "eventflood:20000"])
def test_floods(make_host, flood):
    """Pause, resume and destroy work in the midst of it, and the shim does not grow."""
    host = start_host(make_host, limits="console_bytes = 65536")
    quiet = host.create(id="quiet", cmdline="tick=10")
    host.create(id="one", cmdline="tick=10 " + " ".join(
        f"standin:at={at}:{flood}" for at in range(100, 900, 100)))
    shim, = host.shim_pids("admin:one")
    before = status_kib(shim, "VmRSS")
    for _ in range(10):
        assert host.act("one", "pause")["state"] == "paused"
        assert host.act("one", "resume")["state"] == "running"
    # The last of the floods is over when the guest has long counted on.
    wait_for(lambda: "COUNT 20" in host.console("one", 4096), 20, what="the guest to count on")
    grown = status_kib(shim, "VmHWM") - before
    assert grown < 1024, f"the shim's memory grew by {grown} KiB"
    assert len(host.console("one")) <= 65536
    assert host.get("quiet") == quiet
    assert host.destroy("one")["exit"]["cause"] == "destroyed"
    advances(host, "quiet")
    # Nor does a flood drown our own log.
    assert os.path.getsize(host.log_path) < 1 << 20


def test_closed_stdout(make_host):
    host = start_host(make_host)
    host.create(id="one", cmdline="tick=10 standin:at=100:closestdout")
    shim, = host.shim_pids("admin:one")

    def settled():
        text = host.console("one")
        end = time.monotonic() + 0.2
        wait_for(lambda: time.monotonic() > end)
        return host.console("one") == text and "COUNT" in text
    wait_for(settled, what="the console's end")
    # A stream that has ended must not be looked at for ever.
    ticks, start = cpu_ticks(shim), time.monotonic()
    wait_for(lambda: time.monotonic() > start + 0.5)
    assert cpu_ticks(shim) - ticks < 25, "the shim is busy with a closed stream"
    for _ in range(3):
        host.act("one", "pause")
        host.act("one", "resume")
    assert host.destroy("one", query="grace_s=1")["exit"]["cause"] == "destroyed"


# ------------------------------------------------------------------ stopped processes


def runs(pid):
    """Whether that process can still do anything: one that has no memory any more cannot."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rsplit(")", 1)[1].split()[20]) > 0
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_stopped_vmm(make_host):
    host = start_host(make_host)
    for grace in ("", "grace_s=1"):
        pid = host.create(id="one", cmdline="tick=10")["vmm"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        answer = host.api("POST", "/v1/sandboxes/one/pause")
        assert answer.status == LATE, answer
        assert host.get("one")["state"] == "running"
        assert host.api("GET", "/v1/sandboxes/one/console").status == 200
        assert host.destroy("one", query=grace)["exit"]["cause"] == "destroyed"
        assert host.residue() == []
    # Stopped for a while only: it goes on as if nothing had been.
    pid = host.create(id="one", cmdline="tick=10")["vmm"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert host.api("POST", "/v1/sandboxes/one/pause").status == LATE
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "succeeded after its deadline" in host.log(), what="the late pause")
    advances(host, "one")
    assert host.act("one", "pause")["state"] == "paused"


def test_stopped_shim(make_host):
    """The spawner ends what the shim does not end, within the deadline of the destroy."""
    host = start_host(make_host)
    other = host.create(id="other", cmdline="tick=10")
    pid = host.create(id="one", cmdline="tick=10")["vmm"]["pid"]
    shim, = host.shim_pids("admin:one")
    os.kill(shim, signal.SIGSTOP)
    assert host.get("one")["state"] == "running"
    answer = host.api("POST", "/v1/sandboxes/one/pause")
    assert answer.status == LATE, answer
    last = host.destroy("one")
    assert last["exit"]["cause"] == "destroyed" and last["vmm"] is None
    # Neither runs any more; a moment later both are reaped.
    assert not runs(shim) and not runs(pid)
    wait_for(lambda: not os.path.exists(f"/proc/{shim}") and not os.path.exists(f"/proc/{pid}"),
             what="the reaping of both")
    assert host.get("other") == other
    host.destroy("other")
    assert host.residue() == []


def test_shim_lost_or_stopped_during_a_create(make_host):
    host = start_host(make_host)
    for sig, statuses in ((signal.SIGKILL, (500,)), (signal.SIGSTOP, (LATE,))):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(host.api(
            "POST", "/v1/sandboxes", {"id": "one", "kernel": "tiny", "memory_mib": 32,
                                      "cmdline": "standin:vm.boot=delay:20000"})))
        thread.start()
        wait_for(lambda: host.vmm_pids() and host.shim_pids("admin:one"), what="a VMM")
        os.kill(host.shim_pids("admin:one")[0], sig)
        thread.join(20)
        assert answers and answers[0].status in statuses, (sig, answers)
        assert answers[0].json["detail"] and answers[0].json["sandbox"] == "one"
        assert host.list() == []
        wait_for(lambda: not host.residue(), what="the reaping of both")
        host.create(id="one")
        host.destroy("one")


def test_stopped_shim_of_an_ended_vmm(make_host):
    """Its record cannot be fetched, and it is got rid of all the same."""
    host = start_host(make_host)
    pid = host.create(id="one", cmdline="tick=10")["vmm"]["pid"]
    shim, = host.shim_pids("admin:one")
    os.kill(shim, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    assert host.destroy("one")["exit"]["cause"] == "destroyed"
    wait_for(lambda: not host.residue(), what="the reaping of both")
    # Woken up in time it tells what happened.
    pid = host.create(id="one", cmdline="tick=10")["vmm"]["pid"]
    shim, = host.shim_pids("admin:one")
    os.kill(shim, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    os.kill(shim, signal.SIGCONT)
    assert host.wait_state("one", "crashed")["exit"]["cause"] == "vmm-killed"
