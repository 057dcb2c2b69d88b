# SPDX-License-Identifier: Apache-2.0
"""GET /v1/sandboxes/ID/debug and `cloister debug`: what a shim says of itself and its VMM, held
against what the kernel says; and the read-back that ends a VMM which is not confined as asked.
"""
import os
import re
import signal
import threading

import pytest

import harness
from conftest import need
from harness import TENANT_UIDS, alive, wait_for
from test_api import is_problem
from test_cli import cli, ok, refused
from test_jail import NO_CAPS, descriptors, limits, namespaces, status
from test_snapshot import PRELOAD, drop_template, prepare, restore, snapshot

ALICE, BOB = TENANT_UIDS["alice"], TENANT_UIDS["bob"]
SETS = {"inheritable": "CapInh", "permitted": "CapPrm", "effective": "CapEff",
        "bounding": "CapBnd", "ambient": "CapAmb"}
LIMITS = {"as": "Max address space", "nproc": "Max processes", "fsize": "Max file size",
          "nofile": "Max open files", "memlock": "Max locked memory", "core": "Max core file size"}


@pytest.fixture
def host(make_host, vmm):
    config = f"bind_ro = {PRELOAD}\nenv = LD_PRELOAD={PRELOAD}" if vmm[1] == "ch" else ""
    return make_host(vmm_config=config)


def debug(host, box="one", uid=0, expect=200):
    answer = host.api("GET", f"/v1/sandboxes/{box}/debug", uid=uid)
    assert answer.status == expect, answer
    return answer.json


def number(text):
    return None if text == "unlimited" else int(text)


def check_confined(host, box, after):
    """The confinement as it is told, each field held against /proc; gives what was told."""
    said = debug(host, box)["confinement"]
    pid, uid = host.get(box)["vmm"]["pid"], debug(host, box)["shim"]["vmm_uid"]
    assert said["as_asked"] is True and said["detail"] is None and said["after"] == after, said
    assert said["checks"] >= 1 and said["took_us"] < 5_000_000
    for thread in said["threads"]:
        assert thread["uid"] == [uid] * 4 and thread["gid"] == [uid] * 4, thread
        assert thread["groups"] == 0 and thread["no_new_privs"] is True, thread
        assert thread["seccomp"] == 2 and thread["seccomp_filters"] >= 1, thread
        assert {SETS[s]: bits for s, bits in thread["capabilities"].items()} == NO_CAPS, thread
        try:
            real = status(pid, thread["tid"])
        except FileNotFoundError:
            continue  # it has ended since
        assert real["Name"] == thread["name"] or "kvm" in real["Name"], thread
        assert real["Uid"].split() == [str(uid)] * 4
        assert int(real["Seccomp_filters"]) >= thread["seccomp_filters"]
    real = limits(pid)
    for name, key in LIMITS.items():
        soft, hard = real[key]
        assert said["limits"][name]["soft"] == number(soft), (name, said["limits"])
        assert said["limits"][name]["hard"] == number(hard) <= said["limits"][name]["asked"]
    shim, vmm = namespaces(host.shim_pids()[-1]), namespaces(pid)
    for kind, ns in said["namespaces"].items():
        assert vmm[kind] == f"{kind}:[{ns['vmm']}]" and ns["is_hosts"] is False
        assert ns["is_shims"] is (ns["vmm"] == ns["shim"]) and ns["host"] != ns["vmm"]
        assert len(host.shim_pids()) > 1 or shim[kind] == f"{kind}:[{ns['shim']}]"
    root = os.stat(f"/proc/{pid}/root")
    assert said["root"] == {"dev": root.st_dev, "ino": root.st_ino}
    assert said["own_cgroup"] is (harness.CGROUP_MOUNT is not None)
    return said


def tids(host, box):
    return sorted(int(t) for t in os.listdir(f"/proc/{host.get(box)['vmm']['pid']}/task"))


def test_created(host):
    host.create(id="one", cmdline="tick=0", vcpus=2)
    host.wait_console("one", "GUEST UP")
    check_confined(host, "one", "start")
    # Nothing comes and goes by now: after one more look every thread is there, and no other.
    host.act("one", "pause")
    host.act("one", "resume")
    said = check_confined(host, "one", "resume")
    assert sorted(t["tid"] for t in said["threads"]) == tids(host, "one") and said["checks"] == 2
    names = [t["name"] for t in said["threads"]]
    if host.name == "ch":
        assert {"vmm", "http-server", "vcpu0", "vcpu1"} <= set(names), names
    told = debug(host)
    assert told["account"] == "live" and told["state"] == "running" and told["exit"] is None
    assert told["supervisor"] == {"operation": None, "shim": "up", "linked": True,
                                  "adopted": False, "leftover": None}
    shim = told["shim"]
    assert shim["phase"] == "running" and shim["operation"] is None is shim["operation_us"]
    assert 0 < shim["phase_us"] < shim["age_us"]
    assert shim["pid"] == host.shim_pids()[0] and shim["vmm_pid"] == host.get("one")["vmm"]["pid"]
    # Each descriptor of the shim is there, and it knows what each is for.
    assert sorted(fd["fd"] for fd in shim["descriptors"]) == sorted(descriptors(shim["pid"]))
    assert "?" not in [fd["what"] for fd in shim["descriptors"]], shim["descriptors"]
    paths = [(x["method"], x["path"], x["status"]) for x in told["exchanges"]]
    assert paths == [("GET", "/api/v1/vmm.ping", 200), ("PUT", "/api/v1/vm.create", 204),
                     ("GET", "/api/v1/vm.info", 200), ("PUT", "/api/v1/vm.boot", 204),
                     ("PUT", "/api/v1/vm.pause", 204), ("PUT", "/api/v1/vm.resume", 204)]
    assert all(x["outcome"] == "answered" and x["took_us"] > 0 for x in told["exchanges"])
    assert told["open_requests"] == [] and told["exchanges_total"] == 6
    events = [e["event"] for e in told["events"]["last"]]
    assert "vm/booted" in events and events[-1] == "vm/resumed"
    assert told["events"]["records"] >= 4 and told["events"]["reboots"] == 0
    assert told["console"]["bytes"] == len(host.console("one"))
    assert told["stderr"]["errors"] == 0 and told["stderr"]["last_errors"] == []
    if harness.CGROUP_MOUNT:
        assert set(told["cgroup"]) == {"memory_current", "memory_max", "memory_oom", "cpu_us",
                                       "memory_oom_kill", "pids_current", "pids_max",
                                       "cpu_throttled_us"}


def test_restored_and_woken(host):
    prepare(host, mib=1)
    snapshot(host, "src", "t1")
    # The guest of a snapshot goes on in a VMM that was looked at again.
    wait_for(lambda: debug(host, "src")["confinement"]["after"] == "resume", what="read-back")
    for mode in ("map", "copy"):
        restore(host, mode, "t1", mode)
        check_confined(host, mode, "start")
    snapshot(host, "map", "t2")
    restore(host, "ondemand", "t2", "ondemand")
    check_confined(host, "ondemand", "start")
    host.act("copy", "hibernate")
    told = debug(host, "copy")
    assert (told["state"], told["account"], told["exit"]) == ("hibernated", "none", None)
    host.act("copy", "wake")
    check_confined(host, "copy", "start")
    assert [x["path"][-10:] for x in debug(host, "copy")["exchanges"]][1:3] == \
        ["vm.restore", "/vm.resume"]
    for name in ("t1", "t2"):
        drop_template(host, name)


def test_resized(host):
    host.create(id="one", cmdline="tick=0", memory_mib=64, max_vcpus=3, max_memory_mib=192)
    assert host.api("POST", "/v1/sandboxes/one/resize", {"vcpus": 3}).status == 200
    said = check_confined(host, "one", "resize")
    if host.name == "ch":
        assert {"vcpu0", "vcpu1", "vcpu2"} <= {t["name"] for t in said["threads"]}
    assert host.api("POST", "/v1/sandboxes/one/resize", {"memory_mib": 128}).status == 200
    assert check_confined(host, "one", "resize")["checks"] == said["checks"] + 1


# ------------------------------------------------------------------ not confined as asked

def loosen(pid):
    """As root, from outside: what a VMM cannot do for itself."""
    need("cgroup")
    with open(os.path.join(harness.CGROUP_MOUNT, "cgroup.procs"), "w") as f:
        f.write(str(pid))


def check_ended(host, box="one", phase="running"):
    ended = host.wait_state(box, "crashed")["exit"]
    assert (ended["cause"], ended["signal"], ended["phase"]) == ("vmm-error", 9, phase), ended
    assert "not confined as asked" in ended["detail"] and "its cgroup is" in ended["detail"]
    assert f"admin:{box}" in ended["detail"]
    told = wait_for(lambda: (lambda d: d if d["account"] == "kept" else None)(debug(host, box)),
                    what="the kept account")
    assert told["confinement"]["as_asked"] is False
    assert told["confinement"]["own_cgroup"] is False
    assert "its cgroup is" in told["confinement"]["detail"]
    assert "NOT as asked: " in ok(cli(host, "debug", box))
    assert told["shim"]["phase"] == "ended" and told["exit"] == ended


def test_not_confined_at_resume(host):
    host.create(id="one", cmdline="tick=0")
    host.act("one", "pause")
    pid = host.get("one")["vmm"]["pid"]
    loosen(pid)
    is_problem(host.api("POST", "/v1/sandboxes/one/resume"), 500, "not confined", "its cgroup is")
    check_ended(host)
    wait_for(lambda: not alive(pid), what="the VMM's end")


def test_not_confined_at_resize(host):
    host.create(id="one", cmdline="tick=0", max_vcpus=2)
    loosen(host.get("one")["vmm"]["pid"])
    is_problem(host.api("POST", "/v1/sandboxes/one/resize", {"vcpus": 2}), 500, "not confined")
    check_ended(host)


def test_not_confined_after_snapshot(host):
    """The set is whole all the same: it was taken before."""
    host.create(id="one", cmdline="tick=0")
    loosen(host.get("one")["vmm"]["pid"])
    snapshot(host, "one", "t1")
    check_ended(host)
    drop_template(host, "t1")


@pytest.mark.standin
def test_not_confined_when_a_guest_takes_a_device(host):
    """What the VMM says of devices is a reason to look, and no more: a flood of it costs little."""
    host.create(id="one", cmdline="tick=0 standin:at=100:eventflood:300 "
                                  "standin:at=2500:eventflood:1")
    told = wait_for(lambda: (lambda d: d if d["confinement"]["after"] == "device" else None)(debug(host)),
                    what="a look")
    assert told["events"]["records"] >= 40 and told["confinement"]["checks"] <= 3, told
    loosen(host.get("one")["vmm"]["pid"])
    check_ended(host)


@pytest.mark.standin
def test_not_confined_while_a_create_waits(host):
    """It is not answered with a sandbox, and nothing is left."""
    def ask():
        told.append(host.api("POST", "/v1/sandboxes", {
            "id": "one", "kernel": "tiny", "memory_mib": 32,
            "cmdline": "tick=0 standin:at=1500:eventflood:1",
            "wait_for": {"console": "never printed", "timeout_s": 20}}))
    told = []
    thread = threading.Thread(target=ask)
    thread.start()
    vmm = wait_for(host.vmm_pids, what="the VMM")
    wait_for(lambda: debug(host).get("confinement"), what="the first look")
    assert debug(host)["supervisor"]["operation"] == "create"
    assert debug(host)["shim"]["operation"] == "create"
    loosen(vmm[0])
    thread.join(20)
    is_problem(told[0], 500, "not confined", "its cgroup is")
    assert host.api("GET", "/v1/sandboxes/one").status == 404


# ------------------------------------------------------------------ on a bad day

@pytest.mark.standin
def test_hung_vmm(make_host):
    """Which request the VMM does not answer, for how long, and what is waiting for it."""
    host = make_host(limits="pause_ms = 600")
    host.create(id="one", cmdline="tick=0 standin:vm.pause=hang")
    thread = threading.Thread(target=host.api, args=("POST", "/v1/sandboxes/one/pause"))
    thread.start()
    told = wait_for(lambda: (lambda d: d if d["open_requests"] else None)(debug(host)))
    assert told["supervisor"]["operation"] == "pause" and told["state"] == "running"
    assert (told["shim"]["phase"], told["shim"]["operation"]) == ("pausing", "pause")
    asked = told["open_requests"][0]
    assert (asked["method"], asked["path"], asked["status"]) == ("PUT", "/api/v1/vm.pause", None)
    assert asked["outcome"] == "open" and asked["took_us"] > 0
    later = debug(host)
    assert later["open_requests"][0]["took_us"] > asked["took_us"]
    assert later["shim"]["operation_us"] > told["shim"]["operation_us"] > 0
    assert later["shim"]["phase_us"] > told["shim"]["phase_us"]
    assert "/api/v1/vm.pause" in ok(cli(host, "debug", "one"))
    thread.join(10)
    told = debug(host)
    assert told["open_requests"][0]["outcome"] == "overdue", told["open_requests"]
    assert told["open_requests"][0]["took_us"] > 600_000
    assert "past its deadline" in ok(cli(host, "debug", "one"))
    host.destroy("one")


@pytest.mark.standin
def test_words_of_the_vmm(host):
    host.create(id="one", cmdline="tick=0 standin:vm.pause=error:The_moon_is_red@1 "
                                  "standin:vm.resume=exit:3")
    host.act("one", "pause", expect=502)
    last = debug(host)["exchanges"][-1]
    assert (last["path"], last["status"], last["outcome"]) == ("/api/v1/vm.pause", 500, "answered")
    assert "The moon is red" in last["error"]
    host.act("one", "pause")
    host.api("POST", "/v1/sandboxes/one/resume")
    wait_for(lambda: debug(host)["account"] == "kept", what="the VMM's end")
    told = debug(host)
    assert told["exchanges"][-1]["outcome"] == "lost", told["exchanges"][-1]
    assert told["exit"]["code"] == 3 and told["shim"]["vmm_pid"] == 0
    text = ok(cli(host, "debug", "one"))
    assert "The moon is red" in text and "lost" in text


@pytest.mark.standin
def test_hung_shim(host):
    """504 in time, one question at a time, and all is well when it goes on."""
    host.create(id="one", cmdline="tick=0")
    shim = host.shim_pids()[0]
    os.kill(shim, signal.SIGSTOP)
    answers = []
    commands = []
    threads = [threading.Thread(target=lambda: answers.append(
        host.api("GET", "/v1/sandboxes/one/debug"))) for _ in range(40)]
    threads.append(threading.Thread(target=lambda: commands.append(cli(host, "debug", "one"))))
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        for answer in answers:
            is_problem(answer, 504, "stopped or stuck")
        refused(commands[0], 1, "stopped or stuck")
    finally:
        os.kill(shim, signal.SIGCONT)
    assert len(answers) == 40
    assert debug(host)["account"] == "live"
    assert host.get("one")["state"] == "running"


@pytest.mark.standin
def test_many_ask_at_once(host):
    host.create(id="one", cmdline="tick=0")
    answers = []

    def ask():
        for _ in range(10):
            answers.append(host.api("GET", "/v1/sandboxes/one/debug").status)
    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 300
    assert host.get("one")["state"] == "running"


@pytest.mark.standin
def test_after_the_end(host):
    host.create(id="off", cmdline="tick=0 standin:at=50:poweroff")
    host.create(id="killed", cmdline="tick=0")
    os.kill(host.get("killed")["vmm"]["pid"], signal.SIGKILL)
    for box, state in (("off", "stopped"), ("killed", "crashed")):
        host.wait_state(box, state)
        wait_for(lambda: debug(host, box)["supervisor"]["shim"] == "gone", what="the shim's end")
        told = debug(host, box)
        assert told["account"] == "kept" and told["exit"] == host.get(box)["exit"]
        assert told["confinement"]["as_asked"] is True and told["exchanges_total"] == 4
        assert "told last" in ok(cli(host, "debug", box))
    # One that never ran has nothing to tell.
    host.create(expect=202, query="?wait=none", id="never", cmdline="standin:vm.boot=status:500")
    host.wait_state("never", "failed")
    told = debug(host, "never")
    assert told["account"] == "none" and told["exit"]["cause"] == "start-failed"
    assert set(told) == {"id", "tenant", "state", "supervisor", "exit", "account"}
    assert "told nothing" in ok(cli(host, "debug", "never"))


@pytest.mark.standin
def test_adopted(host):
    host.create(id="one", cmdline="tick=0")
    before = debug(host)
    host.stop(signal.SIGKILL)
    host.start()
    told = debug(host)
    assert told["supervisor"]["adopted"] is True and told["shim"]["pid"] == before["shim"]["pid"]
    assert told["exchanges"] == before["exchanges"]
    assert told["confinement"] == before["confinement"]


@pytest.mark.standin
def test_many_read_a_large_console_at_once(make_host):
    """More than a link's queue holds: they wait for each other, and the sandbox does not suffer."""
    host = make_host(limits="console_bytes = 1048576")
    host.create(id="one", cmdline="tick=0 standin:at=10:stdoutflood:20000")
    # Some of the flood finds no room in the pipe; what came stays as it is.
    sizes, answers = [0], []

    def is_still():
        sizes.append(len(host.console("one", tail=1048576)))
        return sizes[-1] > 100_000 and sizes[-1] == sizes[-2]
    wait_for(is_still, what="a large console")

    def ask():
        for _ in range(3):
            answers.append(host.api("GET", "/v1/sandboxes/one/console?tail=1048576"))
    threads = [threading.Thread(target=ask) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # 503: too many connections of one user.
    assert {a.status for a in answers} <= {200, 503} and len(answers) == 180
    assert all(len(a.body) > 100_000 for a in answers if a.status == 200)
    assert host.get("one")["state"] == "running"


# ------------------------------------------------------------------ who sees what

HOST_ONLY = {"pid", "vmm_pid", "vmm_uid", "descriptors", "tid", "uid", "gid", "vmm", "shim", "host",
             "root"}


def keys(value):
    if isinstance(value, dict):
        return set(value) | set().union(*(keys(v) for v in value.values()), set())
    return set().union(*(keys(v) for v in value), set()) if isinstance(value, list) else set()


@pytest.mark.standin
def test_who_sees_what(host):
    host.create(id="one", uid=ALICE, cmdline="tick=0")
    mine = debug(host, uid=ALICE)
    all_of_it = host.api("GET", "/v1/sandboxes/one/debug?tenant=alice").json
    assert mine["tenant"] == all_of_it["tenant"] == "alice"
    # The host's numbers are for its administrators.
    assert "pid" in all_of_it["shim"] and "tid" in all_of_it["confinement"]["threads"][0]
    assert set(mine["shim"]) == set(all_of_it["shim"]) - HOST_ONLY
    assert set(mine["confinement"]) == set(all_of_it["confinement"]) - {"root"}
    assert not keys(mine["confinement"]["threads"]) & HOST_ONLY
    assert keys(list(mine["confinement"]["namespaces"].values())) == {"is_hosts", "is_shims"}
    text = str(mine)
    for secret in (host.state_dir, host.run_dir, str(all_of_it["shim"]["vmm_uid"]),
                   str(all_of_it["confinement"]["namespaces"]["pid"]["host"])):
        assert secret not in text
    # Another tenant's and none at all: the same answer.
    other = host.api("GET", "/v1/sandboxes/one/debug", uid=BOB)
    none = host.api("GET", "/v1/sandboxes/none/debug", uid=BOB)
    is_problem(other, 404)
    assert other.body == none.body
    is_problem(host.api("GET", "/v1/sandboxes/one/debug?tenant=alice", uid=BOB), 403)
    assert host.api("POST", "/v1/sandboxes/one/debug", uid=ALICE).status == 405


def test_on_the_command_line(host):
    host.create(id="one", cmdline="tick=0")
    done = cli(host, "debug", "one")
    text = ok(done)
    assert re.search(r"^sandbox +one of tenant admin: running$", text, re.M), text
    assert re.search(r"^confinement +as asked; read back after start", text, re.M), text
    assert re.search(r"PUT +/api/v1/vm.boot +204 ", text), text
    assert text.count(" none  yes ") == len(debug(host)["confinement"]["threads"]), text
    assert '"account":"live"' in ok(cli(host, "debug", "--json", "one"))
    refused(cli(host, "debug", "none"), 4, "no such sandbox")
    assert cli(host, "debug").returncode == 2
