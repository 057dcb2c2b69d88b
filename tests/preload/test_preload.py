# SPDX-License-Identifier: Apache-2.0
"""The preload that stands in for KVM_GET_NESTED_STATE: by itself, and under the real VMM."""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "standin"))
from vmm_harness import GUEST, MIB, PRELOAD, REAL, Vmm  # noqa: E402

if not os.path.exists(PRELOAD):
    pytest.exit(f"{PRELOAD} is missing: run make test-programs first", 2)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_real = pytest.mark.skipif(not REAL, reason="no cloud-hypervisor on PATH")
WHERE = "/dev/shm" if os.path.isdir("/dev/shm") else None

# ---- by itself: /dev/null refuses as a KVM does that has never heard of the call ----

GET, SET = 0xc080aebe, 0x4080aebf  # KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE
HEADER = 128                       # sizeof(struct kvm_nested_state)
ASK = """
import errno, fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
state = bytearray.fromhex(sys.argv[3])
try:
    print(fcntl.ioctl(fd, int(sys.argv[2]), state), state.hex())
except OSError as error:
    print(errno.errorcode[error.errno], state.hex())
"""


def ask(request, state, device="/dev/null", preload=PRELOAD):
    """(return value or the name of the error, what is in state then)"""
    done = subprocess.run([sys.executable, "-c", ASK, device, str(request), state.hex()],
                          env={"LD_PRELOAD": preload}, capture_output=True, text=True, check=True)
    result, after = done.stdout.split()
    return result, bytes.fromhex(after)


def header(size, flags=0, form=0, fill=0):
    return struct.pack("=HHI", flags, form, size) + bytes([fill]) * (HEADER - 8)


def test_get_answers_an_empty_state():
    assert ask(GET, header(4096, flags=9, form=1, fill=7)) == ("0", header(HEADER, form=1))
    assert ask(GET, header(HEADER)) == ("0", header(HEADER))


def test_get_with_too_little_room():
    result, after = ask(GET, header(HEADER - 1, fill=7))
    assert (result, after) == ("E2BIG", header(HEADER, fill=7))


@pytest.mark.parametrize("state, result", [
    (header(HEADER), "0"), (header(HEADER, form=1), "0"), (header(HEADER, flags=1), "EINVAL"),
    (header(HEADER + 4096), "EINVAL"), (header(0), "EINVAL")],
    ids=["empty", "format", "flags", "more", "nothing"])
def test_set_takes_an_empty_state_only(state, result):
    assert ask(SET, state) == (result, state)


def test_all_else_goes_through():
    for request in 0x5413, GET + 0x100, SET - 0x10000:
        assert ask(request, bytes(HEADER)) == ("ENOTTY", bytes(HEADER))
        assert ask(request, bytes(HEADER)) == ask(request, bytes(HEADER), preload="")
    master, slave = os.openpty()
    sizes = ask(0x5413, bytes(8), os.ttyname(slave)), ask(0x5413, bytes(8), os.ttyname(slave), "")
    assert sizes[0] == sizes[1] and sizes[0][0] == "0"  # TIOCGWINSZ
    os.close(master)
    os.close(slave)


def test_nothing_is_needed_beside_libc():
    needed = subprocess.run(["readelf", "-d", PRELOAD], capture_output=True, text=True, check=True)
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", needed.stdout) == ["libc.so.6"]


# ---- under the real VMM ----

@pytest.fixture
def base():
    path = tempfile.mkdtemp(dir=WHERE)
    yield path
    shutil.rmtree(path)


def snapshot(vmm, base):
    """Boots, pauses, and tries; returns the answer, all that was said, and the SUM."""
    vmm.boot("tick=10 do=touch_3")
    vmm.wait_text(r"^COUNT 3\n")
    total = vmm.ask("sum", r"^SUM ([0-9a-f]{8})\n")[1]
    assert vmm.call("PUT", "vm.pause").status == 204
    os.mkdir(base + "/set")
    answer = vmm.snapshot(vmm.snapshot_dir)
    vmm.watch(0.05)
    return answer, vmm.stdout(), total


def goes_on(vmm, said):
    """The pause may cut a line in two: only both halves together count without a gap."""
    vmm.wait_text(r"^COUNT \d+\n(.*\n)*COUNT \d+\n")
    counts = [int(n) for n in re.findall(r"^COUNT (\d+)\n", said + vmm.stdout(), re.M)]
    assert counts == list(range(1, len(counts) + 1)) and len(counts) > 4


@needs_real
def test_without_it(base):
    with Vmm(REAL, 24, where=WHERE) as vmm:
        vmm.snapshot_dir = base + "/set"
        answer = snapshot(vmm, base)[0]
        if answer.status == 204:
            pytest.skip("this KVM has nested state")
        assert answer.status == 500
        assert "GetNestedState(Invalid argument (os error 22))" in answer.json()[-1]
        assert os.listdir(base + "/set") == []


@needs_real
@pytest.mark.parametrize("vcpus", [1, 2])
def test_snapshot_and_restore(base, vcpus):
    """A shared file on a tmpfs is the guest's memory; a new process goes on with it."""
    env = {"LD_PRELOAD": PRELOAD}
    with Vmm(REAL, 24, env=env, where=WHERE) as vmm:
        vmm.snapshot_dir = base + "/set"
        cpus = {"boot_vcpus": vcpus, "max_vcpus": vcpus, "nested": False}
        config = vmm.config
        vmm.config = lambda cmdline="", **more: config(cmdline, cpus=cpus, **more)
        answer, said, total = snapshot(vmm, base)
        assert answer.status == 204
        assert sorted(os.listdir(base + "/set")) == ["config.json", "state.json"]
        vmm.process.kill()
        vmm.process.wait()
        with Vmm(REAL, 24, env=env, where=WHERE) as other:
            assert other.restore(base + "/set", resume=True).status == 204
            goes_on(other, said)
            assert other.ask("sum", r"^SUM ([0-9a-f]{8})\n")[1] == total
            other.call("PUT", "vm.pause")
            os.mkdir(base + "/again")
            assert other.snapshot(base + "/again").status == 204


def bare_root(root, uid):
    """What a VMM needs and nothing else: no /proc, no /sys."""
    for program in REAL, PRELOAD:
        libs = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for lib in re.findall(r"(/\S+) \(0x", libs):
            os.makedirs(root + os.path.dirname(lib), exist_ok=True)
            shutil.copy(lib, root + lib)
    for source, name in ((REAL, "/cloud-hypervisor"), (PRELOAD, "/nested_state.so"),
                         (GUEST, "/kernel")):
        shutil.copy(source, root + name)
    os.mkdir(root + "/dev")
    for name, device in (("kvm", (10, 232)), ("urandom", (1, 9)), ("null", (1, 3)),
                         ("userfaultfd", (10, 257))):
        os.mknod(f"{root}/dev/{name}", 0o20600, os.makedev(*device))
        os.chown(f"{root}/dev/{name}", uid, uid)
    os.mkdir(root + "/set", 0o700)
    with open(root + "/ram", "wb") as ram:
        ram.truncate(24 * MIB)
    for name in "/set", "/ram":
        os.chown(root + name, uid, uid)
    os.chmod(root, 0o755)


@needs_real
@needs_root
def test_in_a_jail(base):
    uid = 123456
    root = base + "/root"
    os.mkdir(root)
    if os.statvfs(base).f_flag & os.ST_NODEV:  # then device nodes have to live elsewhere
        root = tempfile.mkdtemp()
    bare_root(root, uid)

    def jailed():
        """One process all along, which closing ends: --kill-child would not outlast the uid."""
        vmm = Vmm("/cloud-hypervisor", 24, kernel="/kernel",
                  env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, where=WHERE,
                  prefix=("prlimit", "--nproc=64", "--nofile=256", "--memlock=0",
                          "unshare", "--net", "--ipc", "--uts",
                          "setpriv", "--no-new-privs",
                          "env", "LD_PRELOAD=/nested_state.so",
                          "chroot", f"--userspec={uid}:{uid}", root))
        vmm.ram, vmm.snapshot_dir = "/ram", "/set"
        return vmm
    try:
        with jailed() as vmm:
            answer, said, total = snapshot(vmm, base)
            assert answer.status == 204, answer.body
            assert sorted(os.listdir(root + "/set")) == ["config.json", "state.json"]
            vmm.call("PUT", "vmm.shutdown")
            assert vmm.wait_exit() == 0
        with jailed() as vmm:
            assert vmm.restore("/set", resume=True).status == 204
            goes_on(vmm, said)
            assert vmm.ask("sum", r"^SUM ([0-9a-f]{8})\n")[1] == total
    finally:
        if not root.startswith(base):
            shutil.rmtree(root)
