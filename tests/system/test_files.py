# SPDX-License-Identifier: Apache-2.0
"""Owners, modes and locks of what cloisterd keeps on disk, and which images it takes."""
import os
import shutil
import signal
import socket
import stat

import pytest

import harness
from harness import CONTROL_GID, TENANT_UIDS, USER_UID, alive, wait_for

ROOT, USER = (0, 0), (USER_UID, USER_UID)


def owners(top):
    """{path below top: (type, mode, uid, gid)} with top itself as ""."""
    found = {}
    for path in [top] + [os.path.join(d, n) for d, ds, fs in os.walk(top) for n in ds + fs]:
        st = os.lstat(path)
        kind = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFSOCK: "s"}[stat.S_IFMT(st.st_mode)]
        found[path[len(top):]] = (kind, oct(stat.S_IMODE(st.st_mode)), st.st_uid, st.st_gid)
    return found


def expected_state(*kernels, records=()):
    return {"": ("d", "0o700", *ROOT), "/images": ("d", "0o755", *ROOT),
            **{f"/images/{k}": ("d", "0o755", *ROOT) for k in ("kernels", "initramfs", "disks")},
            **{f"/images/kernels/{k}": ("f", "0o444", *ROOT) for k in kernels},
            "/templates": ("d", "0o700", *ROOT), "/sandboxes": ("d", "0o700", *ROOT),
            "/store": ("d", "0o700", *USER),
            **{f"/store/{k}.json": ("f", "0o600", *USER) for k in records},
            "/instance": ("f", "0o600", *ROOT),
            "/lock": ("f", "0o600", *ROOT)}


def expected_run(*keys):
    return {"": ("d", "0o750", 0, CONTROL_GID), "/shims": ("d", "0o700", *USER),
            "/new": ("d", "0o700", *ROOT), "/control.sock": ("s", "0o660", 0, CONTROL_GID),
            "/lock": ("f", "0o600", *ROOT),
            # Only from the first start of a sandbox on.
            **({"/uids": ("f", "0o600", *ROOT)} if keys else {}),
            **{f"/shims/{k}.sock": ("s", "0o600", *USER) for k in keys}}


def as_tenant(uid, function):
    """function() in a child that is uid with the control group, for good; gives its text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([CONTROL_GID])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            text = function()
        except BaseException as error:  # the child must not go on as a second pytest
            text = repr(error)
        os.write(write, str(text).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as f:
        text = f.read()
    os.waitpid(child, 0)
    return text


def reachable(paths, top):
    """Which of the paths a process can open, list, connect to or make something in."""
    found = []
    for path in paths:
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try:
                os.close(os.open(path, flags | os.O_NONBLOCK))
                found.append(f"open {path}")
            except (PermissionError, IsADirectoryError):
                pass
            except OSError as error:  # a socket says ENXIO to those who may open it
                found.append(f"{error.strerror} {path}")
        for what, call in (("list", lambda: os.listdir(path)),
                           ("make in", lambda: os.mkdir(path + "/new-thing")),
                           ("unlink", lambda: os.unlink(path)),
                           ("rename", lambda: os.rename(path, path + "x"))):
            try:
                call()
                found.append(f"{what} {path}")
            except (PermissionError, NotADirectoryError):
                pass
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as s:
                try:
                    s.connect(path)
                    found.append(f"connect {path}")
                except OSError:
                    pass
    return sorted(x.replace(top, "") for x in set(found))


@pytest.mark.standin
def test_owners_modes_and_what_a_tenant_reaches(host):
    assert owners(host.state_dir) == expected_state("tiny")
    assert owners(host.run_dir) == expected_run()
    host.create(id="one")
    assert owners(host.run_dir) == expected_run("admin:one")
    assert owners(host.state_dir) == expected_state("tiny", records=["admin:one"])
    state = [host.state_dir + p for p in owners(host.state_dir)]
    run = [host.run_dir + p for p in owners(host.run_dir)]
    for uid in TENANT_UIDS.values():
        assert as_tenant(uid, lambda: reachable(state, host.state_dir)) == "[]"
        # Its directory can be listed and entered by the group, no more; ENXIO is open(2)'s word
        # for a socket that the caller may use.
        text = as_tenant(uid, lambda: reachable(run, host.run_dir))
        assert text == str(sorted(["open ", "list ", "connect /control.sock",
                                   "No such device or address /control.sock"])), text
    for uid in (harness.STRANGER_UID, USER_UID):
        with harness.as_user(uid):
            with pytest.raises(PermissionError):
                os.listdir(host.run_dir if uid != USER_UID else host.state_dir)
    host.destroy("one")


@pytest.mark.standin
def test_what_is_wrong_at_start_is_mended_or_refused(make_host):
    host = make_host()
    instance = host.instance()
    host.stop()
    assert not os.path.exists(host.control)
    # What an administrator's chmod -R, or an earlier run with another user, has spoilt.
    for path in ("", "/images", "/images/kernels", "/templates", "/sandboxes", "/store"):
        os.chmod(host.state_dir + path, 0o777)
    for path in ("", "/shims", "/new"):
        os.chmod(host.run_dir + path, 0o777)
        os.chown(host.run_dir + path, 12345, 12345)
    os.chown(host.state_dir + "/store", 12345, 12345)
    host.start()
    assert owners(host.state_dir) == expected_state("tiny")
    assert owners(host.run_dir) == {**expected_run(), **{
        k: v for k, v in owners(host.run_dir).items() if k == "/uids"}}
    assert host.instance() == instance
    host.stop()
    # No link is followed: not for a directory, not for a file that root writes.
    elsewhere = os.path.join(host.base, "elsewhere")
    os.mkdir(elsewhere, 0o777)
    os.chmod(elsewhere, 0o777)
    for path in (host.state_dir + "/store", host.state_dir + "/images/kernels",
                 host.run_dir + "/new", host.run_dir + "/shims"):
        os.rename(path, path + ".kept")
        os.symlink(elsewhere, path)
        daemon = host.spawn()
        assert daemon.wait(20) == 1
        assert os.path.basename(path) in host.log().splitlines()[-1]
        assert os.listdir(elsewhere) == [] and stat.S_IMODE(os.stat(elsewhere).st_mode) == 0o777
        os.unlink(path)
        os.rename(path + ".kept", path)
    victim = os.path.join(host.base, "victim")
    with open(victim, "w") as f:
        f.write("precious")
    os.chmod(victim, 0o644)
    for path in (host.state_dir + "/instance", host.state_dir + "/lock", host.run_dir + "/lock"):
        os.rename(path, path + ".kept")
        os.symlink(victim, path)
        daemon = host.spawn()
        assert daemon.wait(20) == 1
        assert "symbolic link" in host.log().splitlines()[-1]
        with open(victim) as f:
            assert f.read() == "precious" and stat.S_IMODE(os.stat(victim).st_mode) == 0o644
        os.rename(path + ".kept", path)
    # A damaged instance id is said, never replaced: the cgroups of running VMs carry it.
    with open(host.state_dir + "/instance", "w") as f:
        f.write("../../../evil")
    daemon = host.spawn()
    assert daemon.wait(20) == 1 and "16 hexadecimal digits" in host.log().splitlines()[-1]
    with open(host.state_dir + "/instance", "w") as f:
        f.write(instance + "\n")
    host.start()
    assert host.instance() == instance


@pytest.mark.standin
def test_a_second_daemon_is_refused(make_host):
    """On the same state_dir, run_dir, uids or cgroup; each is named, and nothing of it is changed.

    All are tried at once, because each waits a while for a daemon that may be about to end.
    """
    first = make_host()
    first.create(id="one")
    before = owners(first.run_dir), owners(first.state_dir)
    shared = {
        "state_dir": lambda h: (h.state_dir, first.state_dir),
        "run_dir": lambda h: (h.run_dir, first.run_dir),
        "uids": lambda h: (f"uid_base = {h.uid_base}", f"uid_base = {first.uid_base + 511}"),
    }
    if harness.CGROUP_MOUNT:
        shared["cgroup"] = lambda h: (f"cgroup = {h.cgroup}", f"cgroup = {first.cgroup}")
    others = {}
    for name, change in shared.items():
        host = make_host(start=False)
        with open(host.config_path) as f:
            text = f.read()
        # Another user and group as well: a refused daemon must not take the first one's over.
        for old, new in (change(host), (f"user = {USER_UID}", "user = 64111"),
                         (f"control_group = {CONTROL_GID}", "control_group = 64110")):
            assert old in text
            text = text.replace(old, new)
        with open(host.config_path, "w") as f:
            f.write(text)
        others[name] = host, host.spawn()
    for name, (host, daemon) in others.items():
        assert daemon.wait(30) == 1, name
        last = host.log().splitlines()[-1]
        assert "another cloisterd" in last and name in last, last
        words = {"state_dir": first.state_dir, "run_dir": first.run_dir, "cgroup": first.cgroup,
                 "uids": str(first.uid_base + 511)}
        assert words[name] in last
    assert (owners(first.run_dir), owners(first.state_dir)) == before
    assert first.get("one")["state"] == "running"
    first.create(id="two")


def test_stopping_leaves_vms_and_says_so(host):
    boxes = [host.create(id=i) for i in ("one", "two")]
    instance = host.instance()
    for sig, count in ((signal.SIGTERM, 2), (signal.SIGINT, 2)):
        assert host.stop(sig) == 0
        assert f"signal {int(sig)}: cloisterd ends, {count} VMs are left running" in host.log()
        assert all(alive(box["vmm"]["pid"]) for box in boxes)
        assert not os.path.exists(host.control)
        host.start()
        assert host.instance() == instance
        assert {b["id"]: b["state"] for b in host.list()} == {"one": "running", "two": "running"}
    # Killed, both of them: the socket's file stays, nobody listens, and the next one replaces it.
    spawner, = host.spawner_pids()
    os.kill(spawner, signal.SIGSTOP)
    host.daemon.kill()
    host.daemon.wait(10)
    os.kill(spawner, signal.SIGKILL)
    wait_for(lambda: not alive(spawner), what="the spawner's end")
    assert os.path.exists(host.control)
    with pytest.raises(ConnectionRefusedError):
        host.list()
    host.start()
    assert host.instance() == instance and len(host.list()) == 2
    assert os.stat(host.control).st_gid == CONTROL_GID


@pytest.mark.standin
def test_only_sound_images_are_taken(host):
    """The shim opens an image itself, as root, and looks at what it opened."""
    events = host.events()
    kernels = os.path.join(host.state_dir, "images", "kernels")
    outside = os.path.join(host.base, "outside")
    shutil.copyfile(harness.GUEST, outside)
    os.chmod(outside, 0o444)
    path = lambda name: os.path.join(kernels, name)
    for name, change, says in (
            ("owned", lambda p: os.chown(p, 1234, 1234), "owned by uid 1234, must be uid 0"),
            ("group-writable", lambda p: os.chmod(p, 0o464), "mode 0464, none of 0022"),
            ("all-writable", lambda p: os.chmod(p, 0o446), "mode 0446, none of 0022"),
            ("private", lambda p: os.chmod(p, 0o400), "readable for all (mode 0444)"),
            ("linked", lambda p: os.link(p, os.path.join(host.base, "link")), "has 2 links")):
        change(host.add_image("kernels", name, harness.GUEST))
        error = host.create(expect=422, kernel=name)
        assert says in error["detail"] and name in error["detail"], error
    os.symlink(outside, path("symlink"))
    os.symlink("tiny", path("symlink-beside"))
    os.mkfifo(path("fifo"), 0o444)
    os.mknod(path("device"), stat.S_IFCHR | 0o444, os.makedev(1, 5))
    os.mkdir(path("directory"))
    for name, says in (("symlink", "regular file"), ("symlink-beside", "regular file"),
                       ("fifo", "regular file"), ("device", "regular file"),
                       ("directory", "regular file"), ("missing", "there is no image")):
        error = host.create(expect=422, kernel=name)
        assert says in error["detail"] and name in error["detail"], error
    error = host.create(expect=422, kernel="tiny", initramfs="missing")
    assert "initramfs" in error["detail"] and "missing" in error["detail"]
    # A name is a name, never a path.
    for name in ("../kernels/tiny", "tiny/", "/etc/passwd", "..", "", "TINY"):
        assert host.create(expect=422, kernel=name)["status"] == 422
    assert host.list() == [] and host.residue() == []
    assert not any(e.get("to") == "running" for e in events.seen)
    host.create(id="one", kernel="tiny")


@pytest.mark.standin
def test_a_start_that_fails_leaves_nothing(make_host):
    for line, says in (("bind_ro = /no/such/file", "/no/such/file"), ("bind_ro = /etc", "/etc"),
                       ("env = STANDIN_VERSION=51.1", "51.1")):
        host = make_host(start=False, vmm_config=line)
        daemon = host.spawn()
        assert daemon.wait(20) == 1
        wait_for(lambda: not host.spawner_pids() and not os.path.exists(host.control),
                 what="the spawner's end and that of its socket")
        assert any("error" in text and says in text for text in host.log().splitlines())
        assert host.residue(running=False) == []
