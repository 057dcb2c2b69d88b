# SPDX-License-Identifier: Apache-2.0
"""cloister check: each kind of thing that may differ is planted, found, left as it is, and mended."""
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess

import pytest

import harness
from harness import alive, wait_for

pytestmark = pytest.mark.standin


def check(host, repair=False):
    """(exit status, {(kind, name): what repair does}) of the command."""
    command = [os.path.join(harness.BUILD, "cloister"), "-s", host.control, "--json", "check"]
    done = subprocess.run(command + (["--repair"] if repair else []), capture_output=True,
                          timeout=60, check=False)
    assert done.returncode in (0, 1), done
    answer = host.api("GET", "/v1/check") if not repair else None
    found = json.loads(done.stdout)["findings"]
    assert answer is None or answer.json["findings"] == found
    return done.returncode, {(f["kind"], f["name"]): f["repair"] for f in found}


def tree(host):
    """All that is there, with what a repair could change of it."""
    found = {}
    for top in (host.run_dir, host.state_dir, host.cgroup_path()):
        for path, dirs, files in os.walk(top):
            for name in (".", *files):
                # Records are written behind our back, and so anew.
                record = path.endswith("/store") and name != "."
                if record and name[0] == ".":
                    continue
                st = os.lstat(os.path.join(path, name))
                found[os.path.join(path, name)] = (0 if record else st.st_ino, st.st_mode,
                                                   st.st_uid, st.st_gid)
    return found


def plant_cgroup(host):
    os.mkdir(host.cgroup_path("admin:gone"))
    return {("cgroup", "admin:gone"): "possible"}


@contextlib.contextmanager
def plant_used_cgroup(host):
    """A process that no shim answers for: it may be anybody's, and lives on."""
    os.mkdir(host.cgroup_path("admin:used"))
    decoy = subprocess.Popen(["sleep", "1000"])
    procs = os.path.join(host.cgroup_path("admin:used"), "cgroup.procs")
    with open(procs, "w") as f:
        f.write(str(decoy.pid))
    try:
        yield {("cgroup", "admin:used"): "left"}
        assert alive(decoy.pid)
    finally:
        decoy.kill()
        decoy.wait()
        wait_for(lambda: not host.cgroup_is_used("admin:used"), what="an empty cgroup")
        os.rmdir(host.cgroup_path("admin:used"))


def bind(path, uid=harness.USER_UID):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here = os.getcwd()
    os.chdir(os.path.dirname(path))  # sun_path is short
    try:
        s.bind(os.path.basename(path))
        os.chown(os.path.basename(path), uid, uid)
    finally:
        os.chdir(here)
    return s


def plant_socket(host):
    bind(os.path.join(host.run_dir, "shims", "admin:gone.sock")).close()
    return {("socket", "admin:gone"): "possible"}


@contextlib.contextmanager
def plant_heard_socket(host):
    path = os.path.join(host.run_dir, "shims", "admin:heard.sock")
    with bind(path) as s:
        s.listen(4)
        yield {("socket", "admin:heard"): "left"}
        assert os.path.exists(path)
        os.unlink(path)


@contextlib.contextmanager
def plant_no_socket(host):
    path = os.path.join(host.run_dir, "shims", "junk")
    open(path, "w").close()
    yield {("socket", "junk"): "left"}
    os.unlink(path)


def plant_fresh(host):
    bind(os.path.join(host.run_dir, "new", "12345"), 0).close()
    return {("new-socket", "12345"): "possible"}


def plant_staging(host):
    path = os.path.join(host.state_dir, "templates", ".new-admin:half")
    os.mkdir(path)
    open(os.path.join(path, "ram"), "w").close()
    return {("staging", ".new-admin:half"): "possible"}


@contextlib.contextmanager
def plant_staging_in_use(host):
    """Its writer lives, and holds it locked: nothing differs."""
    path = os.path.join(host.state_dir, "templates", ".new-admin:busy")
    os.mkdir(path)
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield {}
    assert os.path.isdir(path)
    os.close(fd)
    os.rmdir(path)


def plant_half_a_sandbox(host):
    path = os.path.join(host.state_dir, "sandboxes", "admin:half")
    os.makedirs(os.path.join(path, ".new-set"))
    os.makedirs(os.path.join(path, "scratch"))
    return {("staging", "admin:half"): "possible"}


@contextlib.contextmanager
def damaged(host, kind, where, name):
    path = os.path.join(host.state_dir, where, name)
    os.makedirs(path)
    meta = os.path.join(path, "set" if kind == "sandbox" else "", "meta")
    os.makedirs(os.path.dirname(meta), exist_ok=True)
    with open(meta, "w") as f:
        f.write("x")
    yield {(kind, name): "left"}
    assert os.path.exists(meta)
    shutil.rmtree(path)


def plant_damaged_template(host):
    return damaged(host, "template", "templates", "admin:bad")


def plant_damaged_sandbox(host):
    return damaged(host, "sandbox", "sandboxes", "admin:bad")


@contextlib.contextmanager
def plant_uid(host):
    """A lock on a uid, as a shim holds it, that is nobody's."""
    uid = host.uid_base + 300
    fd = os.open(os.path.join(host.run_dir, "uids"), os.O_RDWR)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, uid, 1, 0)
    fcntl.fcntl(fd, 37, lock)  # F_OFD_SETLK
    yield {("uid", str(uid)): "left"}
    os.close(fd)


def plant_mode(host):
    os.chmod(os.path.join(host.state_dir, "sandboxes"), 0o777)
    return {("directory", "sandboxes"): "possible"}


def plant_owner(host):
    os.chown(os.path.join(host.run_dir, "new"), harness.STRANGER_UID, -1)
    return {("directory", "new"): "possible"}


@contextlib.contextmanager
def plant_record(host):
    path = os.path.join(host.state_dir, "store", "bad")
    os.makedirs(path, exist_ok=True)
    open(os.path.join(path, "admin:bad.json"), "w").close()
    yield {("record", "admin:bad.json"): "left"}
    assert os.path.exists(os.path.join(path, "admin:bad.json"))
    shutil.rmtree(path)


PLANTS = [plant_cgroup, plant_used_cgroup, plant_socket, plant_heard_socket, plant_no_socket,
          plant_fresh, plant_staging, plant_staging_in_use, plant_half_a_sandbox,
          plant_damaged_template, plant_damaged_sandbox, plant_uid, plant_mode, plant_owner,
          plant_record]


def test_each_kind_is_found_left_and_mended(host):
    """One after another, beside sandboxes in several states, of this supervisor and the last one."""
    boxes = [host.create(id=f"box{i}", cmdline="tick=20") for i in range(3)]
    host.stop(signal.SIGKILL)
    host.start()
    boxes.append(host.create(id="new"))
    host.act("box1", "pause")
    host.act("box2", "hibernate")
    clean = tree(host)
    assert check(host) == (0, {}) and tree(host) == clean
    for plant in PLANTS:
        planted = plant(host)
        with contextlib.nullcontext(planted) if isinstance(planted, dict) else planted as want:
            before = tree(host)
            assert check(host) == (1 if want else 0, want), plant.__name__
            assert tree(host) == before, f"{plant.__name__}: a check has changed something"
            left = {k: v for k, v in want.items() if v == "left"}
            mended = {k: "done" if v == "possible" else v for k, v in want.items()}
            assert check(host, repair=True) == (1 if left else 0, mended), plant.__name__
            assert check(host) == (1 if left else 0, left), plant.__name__
        assert check(host) == (0, {}), plant.__name__
        assert tree(host) == clean, f"{plant.__name__}: something else was changed, or not mended"
    assert all(alive(box["vmm"]["pid"]) for box in boxes if box["id"] != "box2")
    assert host.act("box2", "wake")["state"] == "running"


def test_the_command_says_so(host):
    os.mkdir(host.cgroup_path("admin:gone"))
    command = [os.path.join(harness.BUILD, "cloister"), "-s", host.control, "check"]
    for arguments, status, says in (([], 1, "cgroup admin:gone: nothing is in it, and it has no shim "
                                            "(--repair mends it)"),
                                    (["--repair"], 0, "(mended)"),
                                    ([], 0, "nothing on the host differs")):
        done = subprocess.run(command + arguments, capture_output=True, timeout=60, check=False,
                              text=True)
        assert (done.returncode, done.stderr) == (status, "") and says in done.stdout
    # It is about the whole host: no tenant's business.
    for method in ("GET", "POST"):
        assert host.api(method, "/v1/check", uid=harness.TENANT_UIDS["alice"]).status == 403
    assert host.api("POST", "/v1/check", {"what": "all"}).status == 422


def test_a_shim_that_cannot_be_adopted_is_shown(host):
    box = host.create(id="one")
    shim, = host.shim_pids("admin:one")
    os.kill(shim, signal.SIGSTOP)
    host.stop(signal.SIGKILL)
    host.start()
    status, found = check(host, repair=True)
    assert (status, found) == (1, {("shim", "admin:one"): "left"})
    os.kill(shim, signal.SIGCONT)
    host.wait_state("one", "running")
    assert check(host) == (0, {}) and alive(box["vmm"]["pid"])
