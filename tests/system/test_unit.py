# SPDX-License-Identifier: Apache-2.0
"""contrib/'s files for systemd: they are valid, and cloisterd does its work with what they leave it."""
import os
import shlex
import signal
import subprocess

import pytest

import harness
from conftest import need
from harness import TOP, alive, wait_for
from test_network import World, make_net, ports  # noqa: F401 (a fixture)
from test_snapshot import restore, snapshot

SERVICE = os.path.join(TOP, "contrib", "cloisterd.service")


def settings(name):
    """All values of a setting of the unit, as one string."""
    with open(SERVICE) as f:
        return " ".join(line.split("=", 1)[1].strip() for line in f if line.startswith(name + "="))


def verify(tmp_path, text):
    """What systemd has to say of the unit; it looks for the programs too."""
    unit = tmp_path / "cloisterd.service"
    unit.write_text(text.replace("@SBINDIR@", harness.BUILD))
    return subprocess.run(["systemd-analyze", "--man=no", "verify", str(unit)], text=True,
                          capture_output=True, timeout=60)


def test_the_unit_is_valid(tmp_path):
    need("tool:systemd-analyze")
    with open(SERVICE) as f:
        text = f.read()
    said = verify(tmp_path, text)
    assert said.returncode == 0 and said.stderr == "", said
    # It would have noticed.
    for wrong in ("KillMode=proces", "Protectsystem=full", "ExecStart=relative"):
        said = verify(tmp_path, text.replace("UMask=0077", wrong))
        assert said.stderr, wrong


def test_the_unit_says_what_cloister_needs():
    assert settings("Type") == "notify" and settings("NotifyAccess") == "main"
    assert settings("KillMode") == "process" and settings("Delegate") == "yes"
    assert settings("OOMPolicy") == "continue" and settings("Restart") == "on-failure"
    # Their filters refuse system calls that are needed.
    for name in ("RestrictNamespaces", "RestrictSUIDSGID", "ProtectHostname"):
        assert settings(name) == ""


def test_users_and_directories_are_valid(tmp_path):
    need("tool:systemd-sysusers")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    said = subprocess.run(["systemd-sysusers", f"--root={root}",
                           os.path.join(TOP, "contrib", "sysusers.d", "cloister.conf")],
                          text=True, capture_output=True, timeout=60)
    assert said.returncode == 0, said
    assert "cloister:" in (root / "etc" / "passwd").read_text()
    assert "cloister:" in (root / "etc" / "group").read_text()


def wrapper(host):
    """
    Starts cloisterd as the unit would have it: read-only mounts in a mount namespace of its own,
    and the capabilities that it leaves. /var/tmp, where the tests are, stays.
    """
    kept = ",".join("+" + cap.removeprefix("CAP_").lower()
                    for cap in settings("CapabilityBoundingSet").split())
    assert settings("ProtectSystem") == "full" and settings("ProtectKernelTunables") == "yes"
    lines = [f"mount --bind {d} {d} && mount -o remount,bind,ro {d}"
             for d in ("/usr", "/etc", "/boot", "/home", "/root", "/proc/sys") if os.path.isdir(d)]
    lines.append("mount -t tmpfs -o mode=1777 tmpfs /tmp")
    program = shlex.quote(os.path.join(harness.BUILD, "cloisterd"))
    lines.append(f"exec setpriv --bounding-set=-all,{kept} -- {program} \"$@\"")
    inside = os.path.join(host.base, "inside.sh")
    outside = os.path.join(host.base, "outside.sh")
    with open(inside, "w") as f:
        f.write("#!/bin/sh\nset -e\n" + "\n".join(lines) + "\n")
    with open(outside, "w") as f:
        f.write(f"#!/bin/sh\nexec unshare --mount --propagation=slave -- {inside} \"$@\"\n")
    for path in (inside, outside):
        os.chmod(path, 0o755)
    return outside


def bounding_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("CapBnd")).split()[1], 16)


def may_write(pid, path):
    return subprocess.run(["nsenter", f"--mount=/proc/{pid}/ns/mnt", "test", "-w", path],
                          timeout=10).returncode == 0


def test_all_of_it_works_in_the_unit(make_net, vmm):  # noqa: F811
    """Network, disk, template, hibernate, restart policy, and an upgrade, with what the unit leaves."""
    need("tool:setpriv")
    need("tool:unshare")
    world = World()
    # Some hosts' KVM cannot save a vCPU's nested state; the preload answers that it is empty.
    preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}\n"
    host = make_net(world=world, start=False, vmm_config=preload if vmm[1] == "ch" else "")
    unit = wrapper(host)
    host.start(binary=unit)
    assert not may_write(host.daemon.pid, "/usr") and not may_write(host.daemon.pid, "/etc")
    # A container may have fewer to begin with.
    assert bounding_of(host.spawner_pids()[0]) < bounding_of("self")
    assert bounding_of(host.spawner_pids()[0]).bit_count() <= \
        len(settings("CapabilityBoundingSet").split())
    with open(os.path.join(host.state_dir, "images", "disks", "base"), "wb") as f:
        f.truncate(1 << 20)
        os.fchmod(f.fileno(), 0o444)
    box = host.create(id="a", cmdline="tick=0", disks=[{"image": "base"}], vsock=True,
                      network={"egress": "internet", "ports": ports(80)},
                      wait_for={"tcp": 80} if host.name == "standin" else None,
                      restart={"policy": "always", "backoff_ms": 100})
    if host.name == "standin":  # which alone has a guest that speaks TCP
        assert world.outside.get(box["network"]["address"], 80)[0] == 200
    snapshot(host, "a", "t1")
    restore(host, "b", "t1")
    host.act("b", "hibernate")
    host.act("b", "wake")
    os.kill(box["vmm"]["pid"], signal.SIGKILL)
    wait_for(lambda: host.get("a")["restart"]["count"] == 1 and host.get("a")["state"] == "running",
             what="its restart")
    pid = host.get("b")["vmm"]["pid"]
    host.stop()
    host.start(binary=unit)
    assert host.get("b")["vmm"]["pid"] == pid and alive(pid)
    host.act("b", "pause")
    host.create(id="c", cmdline="tick=0", network={"egress": "none"})
    for one in ("a", "b", "c"):
        host.destroy(one)
    assert host.api("DELETE", "/v1/templates/t1").status == 200
