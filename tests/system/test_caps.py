# SPDX-License-Identifier: Apache-2.0
"""Which capabilities each role has, in all five sets; and, in the soak, that each of them is needed."""
import contextlib
import os
import re
import socket
import subprocess

import pytest

import harness
from conftest import SOAK
from harness import alive, wait_for
from networld import NetHost, World
from test_jail import status
from test_network import HTTP, ports
from test_snapshot import checksum, prepare, restore, snapshot

pytestmark = pytest.mark.standin

NUMBERS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
           "NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "MKNOD": 27}
FOWNER = 3
ROLES = ["spawner", "setup", "serving"]
NEEDS = {
    "spawner": {"CHOWN", "DAC_OVERRIDE", "NET_ADMIN"},
    "setup": {"DAC_OVERRIDE", "MKNOD", "NET_ADMIN", "SETGID", "SETUID", "SYS_ADMIN", "SYS_PTRACE"},
    "serving": {"CHOWN", "KILL"},
}


def capabilities(pid):
    """{set: names}; unknown ones by their number."""
    names = {number: name for name, number in NUMBERS.items()}
    found = {}
    for key, text in status(pid).items():
        if key.startswith("Cap"):
            mask = int(text, 16)
            found[key[3:]] = {names.get(n, n) for n in range(64) if mask >> n & 1}
    return found


def sets(effective=(), permitted=(), bounding=()):
    return {"Inh": set(), "Amb": set(), "Eff": set(effective), "Prm": set(permitted),
            "Bnd": set(bounding)}


@pytest.fixture
def make_net(vmm):
    with contextlib.ExitStack() as stack:
        def make(**options):
            world = World()
            stack.callback(world.close)
            host = NetHost(vmm[0], vmm[1], world, **options)
            stack.callback(host.close)
            return host
        yield make


@contextlib.contextmanager
def shim_in_set_up(host, like):
    """A shim of our own, with the policy of another one: it waits for its CREATE."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    policy = os.open(f"/proc/{like}/fd/4", os.O_RDONLY)
    high = [os.dup(fd) for fd in (theirs.fileno(), policy, policy)]

    def place():
        moved = [os.dup(fd) for fd in high]
        for i, fd in enumerate(moved):
            os.dup2(fd, 3 + i)

    with ours, theirs, subprocess.Popen(
            ["cloister-shim", "admin:setup", str(host.uid_base + 500)],
            executable=os.path.join(harness.BUILD, "cloister-shim"), preexec_fn=place,
            close_fds=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as shim:
        try:
            for fd in (policy, *high):
                os.close(fd)
            wait_for(lambda: not capabilities(shim.pid)["Bnd"] or shim.poll() is not None,
                     what="its drop")
            yield shim.pid
        finally:
            shim.kill()
            shim.wait()


def check_roles(host, network):
    without = set() if network else {"NET_ADMIN"}
    needs = {role: needed - without for role, needed in NEEDS.items()}
    everything = set().union(*needs.values()) | {"SETPCAP"}
    vmm = host.get("one")["vmm"]["pid"]
    shim, = host.shim_pids("admin:one")
    spawner, = host.spawner_pids()
    assert capabilities(host.daemon.pid) == sets()
    assert capabilities(spawner) == sets(needs["spawner"], everything, everything)
    assert status(spawner)["NoNewPrivs"] == "1"
    assert capabilities(shim) == sets(needs["serving"], needs["serving"])
    for tid in os.listdir(f"/proc/{vmm}/task"):
        assert capabilities(f"{vmm}/task/{tid}") == sets()
    with shim_in_set_up(host, shim) as pid:
        both = needs["setup"] | needs["serving"]
        assert capabilities(pid) == sets(both, both)
        assert status(pid)["NoNewPrivs"] == "1"


def test_each_role_has_what_it_needs_and_no_more(make_net, make_host):
    host = make_net().start()
    host.create(id="one", cmdline="tick=0", network={"egress": "none"})
    check_roles(host, True)
    host = make_host()
    host.create(id="one", cmdline="tick=0")
    check_roles(host, False)


def keeping(host, kept, binary):
    """A program that executes binary with these capabilities only, as a unit or container may."""
    path = os.path.join(host.base, "keeping")
    with open(path, "w") as f:
        f.write(f"""#!/usr/bin/python3
import ctypes, os, sys
for number in range(64):
    if number not in {sorted(kept)}:
        ctypes.CDLL(None).prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv({binary!r}, [{binary!r}, *sys.argv[1:]])
""")
    os.chmod(path, 0o755)
    return path


def test_a_host_that_lacks_one_is_told_so(make_host):
    """A container that took it away: not a failure of some call much later."""
    host = make_host(start=False)
    host.daemon = host.spawn(keeping(host, set(range(64)) - {NUMBERS["SYS_PTRACE"]},
                                     os.path.join(harness.BUILD, "cloisterd")))
    assert host.daemon.wait(20) != 0
    assert "capability sys_ptrace is missing: start cloisterd with it" in host.log()


def live(host, kept=None):
    """A life that takes everything: network, disk, sets, adoption, removal by the spawner."""
    binary = os.path.join(harness.BUILD, "tests", "caps", "cloisterd")
    if kept:
        binary = keeping(host, kept, binary)
    host.start(binary=binary)
    with open(os.path.join(host.state_dir, "images", "disks", "blank"), "wb") as f:
        f.truncate(1 << 20)
    os.chmod(f.name, 0o444)
    want = prepare(host, disks=[{"image": "blank"}])
    snapshot(host, "src", "t1")
    restore(host, "clone", "t1", "map")
    # A map clone's memory goes through a directory on disk, lent to the VMM.
    snapshot(host, "clone", "t2")
    host.act("src", "hibernate")
    host.act("src", "wake")
    assert checksum(host, "src") == want
    host.create(id="net", cmdline="tick=0", vsock=True, wait_for=HTTP,
                network={"egress": "none", "ports": ports(80)})
    # One that dies while the spawner is there, and one while it is not.
    os.kill(host.shim_pids("admin:clone")[0], 9)
    host.wait_state("clone", "crashed")
    vmm = host.get("net")["vmm"]["pid"]
    host.stop()
    os.kill(host.shim_pids("admin:net")[0], 9)
    os.chmod(os.path.join(host.state_dir, "store"), 0o755)  # which cloisterd sets right again
    wait_for(lambda: not alive(vmm), what="the VMM's end")
    host.start(binary=binary)
    assert checksum(host, "src") == want
    for box in host.list():  # what ended before is forgotten, but for those with disks
        host.destroy(box["id"])
    for template in ("t1", "t2"):
        assert host.api("DELETE", f"/v1/templates/{template}").status == 200
    assert not host.residue()
    host.stop()
    for line in host.log().splitlines():
        assert "not permitted" not in line and "Permission denied" not in line, line


def attempt(host, omit=None, kept=None):
    """What broke; None: nothing."""
    if omit:
        os.makedirs(host.state_dir, 0o700)
        with open(os.path.join(host.state_dir, "omit"), "w") as f:
            f.write(f"{omit[0]} {omit[1]}\n")
    try:
        live(host, kept)
    except (AssertionError, OSError, KeyError, TypeError) as error:
        return str(error) or repr(error)
    return None


def unit_capabilities():
    with open(os.path.join(harness.TOP, "contrib", "cloisterd.service")) as f:
        lines = re.findall(r"^CapabilityBoundingSet=(.*)$", f.read(), re.M)
    return {name.removeprefix("CAP_") for line in lines for name in line.split()}


def test_with_those_of_the_unit_nothing_breaks(make_net):
    """The table's, and one by which cloisterd sets the modes of its user's directories (host.c)."""
    assert unit_capabilities() == set(NUMBERS) | {"FOWNER"}
    assert attempt(make_net(), kept={*NUMBERS.values(), FOWNER}) is None


# Two seconds each: the whole table is for the soak.
@pytest.mark.parametrize("role,name", [(r, n) for r in ROLES for n in sorted(NEEDS[r])
                                       if SOAK or n == "NET_ADMIN"] +
                         [("cloisterd", "FOWNER")])
def test_without_one_of_them_something_breaks(vmm, role, name):
    world = World()
    host = NetHost(vmm[0], vmm[1], world)
    try:
        if role == "cloisterd":
            why = attempt(host, kept=NUMBERS.values())
        else:
            why = attempt(host, (ROLES.index(role), NUMBERS[name]))
        print(f"{role} without {name}: {why}")
        assert why is not None, f"{name} is more than {role} needs"
    finally:
        # It may not be able to clear up after itself.
        host.cleanup()
        world.close()
