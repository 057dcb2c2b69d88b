# SPDX-License-Identifier: Apache-2.0
"""The seccomp filters of our own processes: each row is needed, and what has none ends the process.

common/filters/ROLE.def holds the rows; tests/filters/follow.c is the tracer that looks.
"""
import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

import harness
from harness import alive, wait_for

BUILD = os.path.join(harness.TOP, "build")
FOLLOW = os.path.join(BUILD, "tests", "filters", "follow")
KEYCTL = 250  # in no table
CLOCK_NANOSLEEP = 230
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


def syscall_of(pid):
    with open(f"/proc/{pid}/syscall") as f:
        word = f.read().split()[0]
    return int(word) if word.isdigit() else None


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


def cloister(host, *words, **options):
    return subprocess.Popen([os.path.join(harness.BUILD, "cloister"), "-s", host.control, *words],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


def test_long_answers(host):
    """They are made, and read, in blocks that malloc(3) maps, moves and unmaps."""
    labels = {f"key-{i}": "v" * 120 for i in range(32)}
    boxes = [f"box-{i}" for i in range(40)]
    for box in boxes:
        host.create(id=box, cmdline="tick=0", labels=labels)
    said, wrong = cloister(host, "--json", "ls").communicate(timeout=30)
    assert not wrong and len(said) > 160_000
    assert all(f'"{box}"' in said for box in boxes)


def test_a_client_that_is_stopped_goes_on(host):
    client = cloister(host, "events")
    try:
        wait_for(lambda: status(client.pid).get("Seccomp") == "2", what="its filter")
        wait_for(lambda: status(client.pid)["State"].startswith("S"), what="its sleep")
        client.send_signal(signal.SIGSTOP)
        wait_for(lambda: status(client.pid)["State"].startswith(("T", "t")), what="its stop")
        client.send_signal(signal.SIGCONT)
        host.create(id="one", cmdline="tick=0")
        assert "one" in client.stdout.readline() + client.stdout.readline()
    finally:
        client.kill()
        client.communicate(timeout=10)


def test_a_client_waits_for_room(host):
    """cloisterd stands still, and as many as may wait for it do so already."""
    host.daemon.send_signal(signal.SIGSTOP)
    waiting = []
    client = None
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                waiting.append(sock)
                sock.connect(host.control)
        client = cloister(host, "ls")
        wait_for(lambda: status(client.pid).get("Seccomp") == "2", what="its filter")
        wait_for(lambda: syscall_of(client.pid) == CLOCK_NANOSLEEP, what="a pause")
    finally:
        for sock in waiting:
            sock.close()
        host.daemon.send_signal(signal.SIGCONT)
        if client:
            said, wrong = client.communicate(timeout=30)
    assert client.returncode == 0, said + wrong


# ------------------------------------------------------------------ every row is used

# Cases that together make every call that the tables name, but for those marked RARE.
CASES = """
test_wire.py::test_another_version_is_answered_as_such[standin]
test_wire.py::test_a_flood_is_no_harm[standin]
test_connect.py::test_client_as_a_proxy[standin]
test_connect.py::test_client[standin]
test_connect.py::test_sets[standin]
test_connect.py::test_supervisor_ends[standin]
test_disk_sets.py::test_holes_stay_holes[standin-ext4]
test_disk_sets.py::test_a_new_generation_is_as_good_as_the_first[standin-xfs]
test_import.py::test_plain_set_is_restored_and_goes_on[standin]
test_image.py::test_no_space[standin]
test_attack_tenant.py::test_links_of_a_tenant[standin]
test_image.py::test_called_off[standin]
test_image.py::test_used_images_stay[standin]
test_network.py::test_senders_that_they_are_not[standin]
test_cli.py::test_a_life_on_the_command_line[standin]
test_cli.py::test_a_client_that_is_killed_leaves_its_sandbox[standin]
test_cli.py::test_events_and_info[standin]
test_disks.py::test_what_is_mounted_over_an_image_is_not_taken[standin-xfs]
test_disks.py::test_a_death_while_a_disk_is_copied[standin-ext4-spawner]
test_disks.py::test_a_death_while_a_disk_is_copied[standin-ext4-supervisor]
test_disks.py::test_a_failed_create_leaves_nothing[standin-ext4]
test_disk_faults.py::test_what_a_full_disk_is_told_by[standin-ext4]
test_snapshot.py::test_a_copy_has_every_page_of_its_template[standin]
test_console.py::test_followers_end_with_a_destroy_and_a_crash[standin]
test_sets.py::test_a_damaged_set_can_be_removed[standin]
test_set_faults.py::test_a_death_in_mid_snapshot[standin-shim]
test_adopt.py::test_the_spawner_dies[standin]
test_adopt.py::test_restart_in_the_middle_of_a_create[standin-killed-over]
test_store.py::test_damaged_records[standin-flip]
test_check.py::test_each_kind_is_found_left_and_mended[standin]
test_restart.py::test_a_boot_keeps_the_disks[standin-ext4]
test_drain.py::test_an_end_with_nothing_in_flight_does_not_wait[standin]
test_debug.py::test_adopted[standin]
test_misbehave.py::test_stopped_shim[standin]
test_filters.py::test_long_answers[standin]
test_filters.py::test_a_client_that_is_stopped_goes_on[standin]
test_filters.py::test_a_client_waits_for_room[standin]
"""


def read_rows():
    """Event number -> (role, whether it is the role's own, name, why no test sees it)."""
    rows = {}
    with open(os.path.join(BUILD, "trace", "rows.txt")) as f:
        for line in f:
            event, role, whose, _, name, *why = line.rstrip("\n").split(" ", 5)
            rows[int(event)] = (role, whose == "own", name, " ".join(why).strip())
    return rows


def wrappers(path, out):
    """A folder with programs that run those of build/trace under the tracer."""
    for name in ("cloister", "cloisterd"):
        program = os.path.join(path, name)
        with open(program, "w") as f:
            f.write(f"#!/bin/sh\nexec {FOLLOW} record {BUILD}/trace/rows.txt {out} "
                    f'{BUILD}/trace/{name} "$@"\n')
        os.chmod(program, 0o755)
    os.symlink(os.path.join(BUILD, "tests"), os.path.join(path, "tests"))
    os.chmod(path, 0o755)


def run_cases(path):
    names = [os.path.join(harness.HERE, line) for line in CASES.split()]
    env = {**os.environ, "CLOISTER_BUILD": str(path)}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                           *names], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-20000:]


def read_out(out):
    """The events that were seen, and the calls that no row names (but for a VMM's)."""
    used, unlisted = set(), []
    with open(out) as f:
        for line in f:
            kind, event, *more = line.split()
            if kind == "used":
                used.add(int(event))
            elif kind == "unlisted":
                unlisted.append(f"{ROLES[int(event) >> 13]}: call {' '.join(more)}")
    return used, unlisted


def test_every_row_is_used(vmm, tmp_path):
    if harness.SANITIZED:
        pytest.skip("its programs are those of the plain build")
    out = tmp_path / "seen"
    out.touch(mode=0o666)
    wrappers(tmp_path, out)
    run_cases(tmp_path)
    rows = read_rows()
    used, unlisted = read_out(out)
    problems = sorted(unlisted)
    for event, (role, own, name, why) in sorted(rows.items()):
        if own and not why and event not in used:
            problems.append(f"{role}: nobody calls {name}")
        # A client's table is an import's as well; what runs under the others has its own.
        if not own and role != "import" and event in used:
            problems.append(f"{role}: {name} is called, but in its own table it is not")
        if own and why:
            print(f"left out: {role}: {name}: {why}" + (" (seen)" if event in used else ""))
    assert not problems, "\n".join(problems)
