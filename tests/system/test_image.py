# SPDX-License-Identifier: Apache-2.0
"""`cloister image`: what it imports and refuses, who keeps an image from being removed, and that
nothing half-made is ever seen, whatever ends an import."""
import contextlib
import hashlib
import json
import os
import signal
import subprocess

import pytest

import filesystems
import harness
from harness import alive, wait_for

pytestmark = pytest.mark.standin

MIB = 1 << 20
# Digesting its holes takes long enough to be interrupted; it takes no room.
SLOW_BYTES = 16 << 30


def command(host, *args):
    return [os.path.join(harness.BUILD, "cloister"), "image", "--config", host.config_path,
            *map(str, args)]


def image(host, *args, expect=0, timeout=60, **options):
    """Runs it; gives what it printed on both outputs."""
    done = subprocess.run(command(host, *args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, **options)
    assert done.returncode == expect, (args, done.returncode, done.stdout)
    return done.stdout


def listed(host, *args):
    return {(i["kind"], i["name"]): i
            for i in json.loads(image(host, "ls", "--json", *args))["images"]}


def inspect(host, kind, name, *args):
    return json.loads(image(host, "inspect", "--json", kind, name, *args))


def folder(host, kind="disk"):
    return os.path.join(host.state_dir, "images",
                        {"kernel": "kernels", "initramfs": "initramfs", "disk": "disks"}[kind])


def files(host, kind="disk"):
    """All that lies there, whether it is an image or not."""
    return sorted(os.listdir(folder(host, kind)))


def write(path, data, size=None):
    with open(path, "wb") as f:
        f.write(data)
        if size is not None:
            f.truncate(size)
    return str(path)


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(f.read()).hexdigest()


@pytest.fixture
def raw(tmp_path):
    """A disk of 8 MiB of which 1 MiB is data."""
    return write(tmp_path / "raw.img", os.urandom(MIB), 8 * MIB)


@pytest.fixture
def bare(make_host):
    """A host whose cloisterd never ran: STATE_DIR is there and empty."""
    host = make_host(start=False)
    os.makedirs(host.state_dir, mode=0o700)
    return host


# ------------------------------------------------------------------ importing


def test_from_import_to_removal(bare, raw):
    host = bare
    assert image(host, "ls", "--json") == '{"images":[]}\n'
    assert " imported by " in image(host, "import", "kernel", "tiny", harness.GUEST)
    made = json.loads(image(host, "import", "--json", "disk", "base", raw))
    path = os.path.join(folder(host), "base")
    st = os.stat(path)
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_nlink) == (0o444, 0, 0, 1)
    assert made["sha256"] == digest(raw) == digest(path) and made["source"] == "raw.img"
    assert made["bytes"] == 8 * MIB and MIB <= made["allocated_bytes"] < 2 * MIB
    assert made["fault"] is None and made["made"] in ("copy", "reflink")
    assert files(host) == [".base.json", "base"]
    assert oct(os.stat(os.path.join(folder(host), ".base.json")).st_mode)[-4:] == "0444"
    with open(os.path.join(folder(host), ".base.json")) as f:
        sidecar = json.load(f)
    assert sidecar == {k: made[k] for k in ("sha256", "bytes", "imported_at", "source")}
    # The daemon finds the directories as it would make them, and the images in them.
    host.start()
    host.create(id="a")
    host.wait_console("a", "GUEST UP")
    assert set(listed(host)) == {("kernel", "tiny"), ("disk", "base")}
    assert set(listed(host, "disk")) == {("disk", "base")}
    assert inspect(host, "kernel", "tiny")["users"] == {"sandboxes": ["admin:a"], "templates": []}
    assert inspect(host, "disk", "base")["users"] == {"sandboxes": [], "templates": []}
    text = image(host, "ls")
    assert "base" in text and "8.0 MiB" in text and made["sha256"][:12] in text
    assert "users.sandboxes: admin:a" in image(host, "inspect", "kernel", "tiny")
    assert image(host, "rm", "disk", "base") == "disk base removed\n"
    assert files(host) == []
    assert "there is no disk" in image(host, "rm", "disk", "base", expect=4)
    assert "there is no disk" in image(host, "inspect", "disk", "base", expect=4)


@pytest.mark.fs("ext4", "xfs", "btrfs", only=True)
def test_how_it_is_copied(make_host, fs, fs_kind):
    host = make_host(start=False, state_root=fs)
    os.makedirs(host.state_dir, mode=0o700)
    data = os.urandom(4 * MIB)
    source = write(os.path.join(fs, f"source-{os.getpid()}.img"), data, 256 * MIB)
    try:
        with open(source, "r+b") as f:
            f.seek(128 * MIB)
            f.write(data)
        os.sync()
        free = filesystems.room(fs)
        made = json.loads(image(host, "import", "--json", "disk", "base", source))
        assert made["made"] == ("reflink" if fs_kind in filesystems.REFLINK else "copy")
        assert made["sha256"] == digest(source) == digest(os.path.join(folder(host), "base"))
        assert made["allocated_bytes"] < 10 * MIB
        os.sync()
        taken = free - filesystems.room(fs)
        assert taken < (4 if made["made"] == "reflink" else 10) * MIB, taken
    finally:
        os.unlink(source)


def test_block_device(bare, raw):
    with filesystems.loop_device(raw) as device:
        made = json.loads(image(bare, "import", "--json", "disk", "base", device))
        assert made["bytes"] == 8 * MIB and made["sha256"] == digest(raw)
        assert "no regular file" in image(bare, "import", "initramfs", "base", device, expect=1)


BAD = {  # kind, content, size, what is said
    "qcow2": ("disk", b"QFI\xfb", MIB, "qemu-img convert -O raw"),
    "vhd at its end": ("disk", bytes(MIB - 512) + b"conectix", MIB, "VHD"),
    "vdi": ("disk", bytes(64) + b"\x7f\x10\xda\xbe", MIB, "VDI"),
    "vmdk": ("disk", b"# Disk DescriptorFile\n", MIB, "VMDK"),
    "gzip": ("disk", b"\x1f\x8b\x08", MIB, "zcat"),
    "odd size": ("disk", b"x", 513, "512"),
    "empty disk": ("disk", b"", 0, "empty"),
    "empty initramfs": ("initramfs", b"", 0, "empty"),
    "text": ("kernel", b"hello", MIB, "bzImage"),
    "elf of 32 bits": ("kernel", b"\x7fELF\x01\x01\x01", MIB, "64 bits"),
    "elf without pvh": ("kernel", b"\x7fELF\x02\x01\x01", MIB, "CONFIG_PVH"),
}


def test_refused_files(bare, tmp_path):
    host = bare
    for what, (kind, content, size, says) in BAD.items():
        source = write(tmp_path / "file", content, size)
        assert says in image(host, "import", kind, "base", source, expect=1), what
        assert files(host, kind) == [], what
    os.mkfifo(tmp_path / "fifo")
    for source in (tmp_path, tmp_path / "fifo", "/dev/null"):
        assert "no regular file" in image(host, "import", "disk", "base", source, expect=1)
    assert "ENOENT" in image(host, "import", "disk", "base", tmp_path / "nothing", expect=1)
    assert files(host) == []


def test_usage(bare, raw):
    host = bare
    for args in (("make",), ("import", "disk", "base"), ("import", "floppy", "base", raw),
                 ("import", "disk", "../base", raw), ("import", "disk", ".base", raw),
                 ("import", "disk", "Base", raw), ("rm", "disk"), ("rm", "disk", "a/b"),
                 ("ls", "floppy"), ("ls", "disk", "base"), ("inspect", "disk"),
                 ("inspect", "--replace", "disk", "base"), ("rm", "--verify", "disk", "base")):
        image(host, *args, expect=2)
    assert not os.path.exists(os.path.join(host.state_dir, "images"))
    assert "run it as root" in image(host, "ls", expect=1, user=harness.STRANGER_UID,
                                     group=harness.STRANGER_UID)
    os.rmdir(host.state_dir)
    assert "first start" in image(host, "ls", expect=1)
    host.config_path = "/nowhere/cloisterd.conf"
    assert "/nowhere" in image(host, "ls", expect=1)


def test_directories_must_be_roots(bare, raw, tmp_path):
    host = bare
    image(host, "import", "disk", "base", raw)
    for path in (folder(host), os.path.dirname(folder(host)), host.state_dir):
        os.chmod(path, 0o777)
        for args in (("import", "disk", "b", raw), ("rm", "disk", "base"), ("inspect", "disk", "base")):
            assert "root's" in image(host, *args, expect=1)
        os.chmod(path, 0o755)
        os.chown(path, 1234, 0)
        assert "uid 1234" in image(host, "import", "disk", "b", raw, expect=1)
        assert os.stat(path).st_uid == 1234
        os.chown(path, 0, 0)
    # A link in their place leads nowhere.
    os.rename(folder(host), tmp_path / "disks")
    os.symlink(tmp_path / "disks", folder(host))
    for args in (("import", "disk", "b", raw), ("rm", "disk", "base"), ("inspect", "disk", "base"),
                 ("ls",)):
        image(host, *args, expect=1)
    assert sorted(os.listdir(tmp_path / "disks")) == [".base.json", "base"]


def test_put_there_by_hand(bare, raw):
    host = bare
    image(host, "import", "disk", "base", raw)
    assert inspect(host, "disk", "base", "--verify")["verified"] is True
    path = host.add_image("disks", "hand", raw)
    found = listed(host)[("disk", "hand")]
    assert (found["sha256"], found["imported_at"], found["fault"]) == (None, None, None)
    assert "no digest" in image(host, "inspect", "--verify", "disk", "hand", expect=1)
    os.chmod(path, 0o600)
    assert "0444" in listed(host)[("disk", "hand")]["fault"]
    assert "unusable: " in image(host, "ls")
    os.chmod(path, 0o666)
    assert "0666" in inspect(host, "disk", "hand")["fault"]
    os.chown(path, 1234, 0)
    assert "uid 1234" in inspect(host, "disk", "hand")["fault"]
    os.unlink(path)
    os.symlink("base", path)
    assert inspect(host, "disk", "hand")["fault"]
    # Bits that turn over on the disk show by the digest only.
    path = os.path.join(folder(host), "base")
    st = os.stat(path)
    with open(path, "r+b") as f:
        first = f.read(1)[0]
        f.seek(0)
        f.write(bytes([first ^ 1]))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert listed(host)[("disk", "base")]["sha256"]
    assert "not what was imported" in image(host, "inspect", "--verify", "disk", "base", expect=1)
    # What is changed by hand has no digest any more.
    os.utime(path)
    assert listed(host)[("disk", "base")]["sha256"] is None


def test_replace(bare, raw, tmp_path):
    host = bare
    first = json.loads(image(host, "import", "--json", "disk", "base", raw))
    other = write(tmp_path / "other.img", os.urandom(MIB), 4 * MIB)
    path = os.path.join(folder(host), "base")
    assert "--replace" in image(host, "import", "disk", "base", other, expect=1)
    assert digest(path) == first["sha256"]
    # One that is refused leaves the older one.
    bad = write(tmp_path / "bad.img", b"QFI\xfb", MIB)
    image(host, "import", "--replace", "disk", "base", bad, expect=1)
    assert inspect(host, "disk", "base", "--verify")["sha256"] == first["sha256"]
    with open(path, "rb") as held:
        image(host, "import", "--replace", "disk", "base", other)
        # Who had it open has it still.
        assert hashlib.sha256(held.read()).hexdigest() == first["sha256"]
    second = inspect(host, "disk", "base", "--verify")
    assert second["sha256"] == digest(other) and second["source"] == "other.img"
    assert files(host) == [".base.json", "base"]
    image(host, "import", "--replace", "disk", "new", other)
    # A sidecar of another image (as after a crash between the two renames) tells nothing.
    os.rename(os.path.join(folder(host), ".base.json"), os.path.join(folder(host), ".new.json"))
    assert inspect(host, "disk", "base")["sha256"] is None
    assert inspect(host, "disk", "new")["sha256"] is None


# ------------------------------------------------------------------ interrupted, and at once


def heed_signals():
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def slow_import(host, tmp_path, name="base"):
    source = write(tmp_path / "slow.img", b"x", SLOW_BYTES)
    # What the suite was started to ignore (nohup, a shell's background) the import would ignore too.
    process = subprocess.Popen(command(host, "import", "disk", name, source),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               preexec_fn=heed_signals)
    try:
        wait_for(lambda: os.path.exists(os.path.join(folder(host), f".new:{name}"))
                 or process.poll() is not None, 10, "the import's start")
        assert process.poll() is None, process.stdout.read()
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_killed_in_the_middle(bare, raw, tmp_path):
    host = bare
    with slow_import(host, tmp_path) as process:
        assert listed(host) == {}
        process.kill()
        process.wait(10)
    assert listed(host) == {} and files(host) == [".new:base"]
    image(host, "import", "disk", "base", raw)
    assert files(host) == [".base.json", "base"]
    assert inspect(host, "disk", "base", "--verify")["sha256"] == digest(raw)
    # The older one stays when its successor is killed.
    with slow_import(host, tmp_path, "other") as process:
        process.kill()
    image(host, "import", "--replace", "disk", "base", raw)
    assert set(listed(host)) == {("disk", "base")}


def test_called_off(bare, tmp_path):
    host = bare
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with slow_import(host, tmp_path) as process:
            process.send_signal(number)
            assert process.wait(10) == 128 + number
            assert "called off" in process.stdout.read()
            assert files(host) == []


def test_two_at_once(bare, raw, tmp_path):
    host = bare
    with slow_import(host, tmp_path):
        assert "another import" in image(host, "import", "disk", "base", raw, expect=1)
        image(host, "import", "disk", "other", raw)
        assert set(listed(host)) == {("disk", "other")}
        image(host, "rm", "disk", "other")
    # Of many that are quick, one wins, and what is there is whole.
    crowd = [subprocess.Popen(command(host, "import", "disk", "base", raw),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
             for _ in range(8)]
    said = [p.communicate(timeout=60)[0] for p in crowd]
    assert sorted(p.returncode for p in crowd) == [0] + [1] * 7, said
    assert all("already" in text or "another import" in text for p, text in zip(crowd, said)
               if p.returncode), said
    assert files(host) == [".base.json", "base"]
    # Replacing, each comes after another or is told to wait: there is always one, and it is whole.
    crowd = [subprocess.Popen(command(host, "import", "--replace", "disk", "base", raw),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
             for _ in range(8)]
    while any(p.poll() is None for p in crowd):
        assert inspect(host, "disk", "base")["bytes"] == 8 * MIB
    assert 0 in [p.wait(60) for p in crowd]
    inspect(host, "disk", "base", "--verify")
    assert files(host) == [".base.json", "base"]


def test_no_space(bare, tmp_path):
    host = bare
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "small", host.state_dir],
                   check=True)
    try:
        dense = write(tmp_path / "dense.img", os.urandom(8 * MIB))
        small = write(tmp_path / "small.img", os.urandom(MIB))
        assert "ENOSPC" in image(host, "import", "disk", "base", dense, expect=1)
        assert files(host) == []
        image(host, "import", "disk", "base", small)
        assert "ENOSPC" in image(host, "import", "--replace", "disk", "base", dense, expect=1)
        assert inspect(host, "disk", "base", "--verify")["sha256"] == digest(small)
        assert files(host) == [".base.json", "base"]
    finally:
        subprocess.run(["umount", "-l", host.state_dir], check=True)


# ------------------------------------------------------------------ who uses it


def test_used_images_stay(make_host, raw):
    host = make_host()
    image(host, "import", "kernel", "guest", harness.GUEST)
    image(host, "import", "initramfs", "ird", harness.GUEST)
    host.create(id="a", kernel="guest", initramfs="ird", memory_mib=32)
    for kind, name in (("kernel", "guest"), ("initramfs", "ird")):
        said = image(host, "rm", kind, name, expect=1)
        assert "in use" in said and "sandbox admin:a" in said
    # It may be replaced, though: who runs has the older one open.
    image(host, "import", "--replace", "kernel", "guest", harness.GUEST)
    host.wait_console("a", "GUEST UP")
    answer = host.api("POST", "/v1/sandboxes/a/snapshot", {"template": "t"})
    assert answer.status == 201, answer
    host.destroy("a")
    host.create(id="h", kernel="guest", memory_mib=32, uid=harness.TENANT_UIDS["alice"])
    host.act("h", "hibernate", uid=harness.TENANT_UIDS["alice"])
    said = image(host, "rm", "kernel", "guest", expect=1)
    assert "template admin:t" in said and "sandbox alice:h" in said and "admin:a" not in said
    assert "template admin:t" in image(host, "rm", "initramfs", "ird", expect=1)
    # Without a cloisterd what lies on disk tells it.
    host.stop()
    said = image(host, "rm", "kernel", "guest", expect=1)
    assert "template admin:t" in said and "sandbox alice:h" in said
    assert listed(host)[("kernel", "guest")]["users"] == {
        "sandboxes": ["alice:h"], "templates": ["admin:t"]}
    # A set that cannot be read may name anything.
    meta = os.path.join(host.state_dir, "templates", "admin:t", "meta")
    with open(meta, "rb") as f:
        was = f.read()
    with open(meta, "wb") as f:
        f.write(was[:-1] + bytes([was[-1] ^ 1]))
    assert "templates/admin:t cannot be read" in image(host, "rm", "kernel", "tiny", expect=1)
    with open(meta, "wb") as f:
        f.write(was)
    image(host, "rm", "kernel", "tiny")
    # The daemon starts as ever afterwards.
    host.add_image("kernels", "tiny", harness.GUEST)
    host.start()
    assert host.api("DELETE", "/v1/templates/t").status == 200
    assert "sandbox alice:h" in image(host, "rm", "kernel", "guest", expect=1)
    host.destroy("h", tenant="alice")
    image(host, "rm", "kernel", "guest")
    image(host, "rm", "initramfs", "ird")


def test_disks_in_use(make_host, raw):
    host = make_host()
    for name in ("own", "shared"):
        image(host, "import", "disk", name, raw)
    host.create(id="a", disks=[{"image": "own"}, {"image": "shared", "readonly": True}])
    for name in ("own", "shared"):
        assert "sandbox admin:a" in image(host, "rm", "disk", name, expect=1)
    # Its writable disk is a file of its own by now; the read-only one is the image itself.
    image(host, "import", "--replace", "disk", "own", raw)
    said = image(host, "import", "--replace", "disk", "shared", raw, expect=1)
    assert "read-only" in said and "sandbox admin:a" in said
    assert files(host) == [".own.json", ".shared.json", "own", "shared"]
    host.destroy("a")
    image(host, "import", "--replace", "disk", "shared", raw)
    for name in ("own", "shared"):
        image(host, "rm", "disk", name)
    assert files(host) == []


def test_who_uses_it_is_not_known(make_host):
    """What cannot be found out is no "nobody"."""
    host = make_host()
    image(host, "import", "kernel", "spare", harness.GUEST)
    host.create(id="a")
    host.wait_console("a", "GUEST UP")
    # A cloisterd that does not answer.
    host.daemon.send_signal(signal.SIGSTOP)
    try:
        image(host, "--timeout", 1, "rm", "kernel", "spare", expect=3)
        done = subprocess.run(command(host, "--timeout", 1, "--json", "ls"), check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
        assert done.returncode == 3
        assert {i["users"] for i in json.loads(done.stdout)["images"]} == {None}
    finally:
        host.daemon.send_signal(signal.SIGCONT)
    # None that runs, but its sandboxes do.
    spawners = host.spawner_pids()
    host.daemon.kill()
    host.daemon.wait(10)
    wait_for(lambda: not any(alive(p) for p in spawners), 10, "the spawner's end")
    said = image(host, "rm", "kernel", "spare", expect=1)
    assert "admin:a" in said and "start cloisterd first" in said
    host.start()
    image(host, "rm", "kernel", "spare")
    host.destroy("a")


def test_root_that_is_no_admin(make_host):
    host = make_host(config=f"[admin]\nusers = {harness.STRANGER_UID}\n")
    try:
        said = image(host, "rm", "kernel", "tiny", expect=1)
        assert "admins only" in said
    finally:
        host.stop()
    image(host, "rm", "kernel", "tiny")
