# SPDX-License-Identifier: Apache-2.0
"""Hostile code inside the jail: a VMM (tests/attack/) that tries to get out of it, or to take more.

It is put in place of the VMM and goes through the whole product: a sandbox is created, and what its
console is told, it tries. Each case says what held it.
"""
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

import harness
from conftest import need
from harness import alive, wait_for
from test_misbehave import cpu_ticks, status_kib

# Without Landlock, which would hold many of them before anything else does (test_landlock.py).
pytestmark = [pytest.mark.standin, pytest.mark.bare]
REFUSED, LATE = 502, 504

# Like the stand-in never built with sanitizers.
ATTACK = os.path.join(harness.TOP, "build", "tests", "attack", "cloud-hypervisor")


@pytest.fixture
def vmm():
    need("root")
    return ATTACK, "standin"


def attack(host, line, box="one"):
    """Tells the VMM to try; gives what became of it, line by line, without its own name."""
    name = line.split()[0]
    before = len(host.console(box))
    host.send(box, f"attack {line}\n")
    wait_for(lambda: f"ATTACK {name} done" in host.console(box)[before:], 30,
             f"the end of {line!r}: {host.console(box)[before:]}")
    return parse(host.console(box)[before:], name)


def parse(text, name):
    found = re.findall(r"^ATTACK (\w+) (.*?)\r?$", text, re.M)
    return [rest if word == name else f"{word} {rest}" for word, rest in found if rest != "done"]


def ran(host, box="one"):
    """The sandbox, and so the shim and all above it, are as they were."""
    assert host.get(box)["state"] == "running"


# ------------------------------------------------------------------ the outer filter


def test_every_rule_of_the_filter(host):
    """Held by: seccomp. Each rule is broken by a process of its own, and bits that the kernel
    passes over carry nothing past a rule; i386 and x32 are no way round either."""
    listed = subprocess.run([ATTACK, "--rules"], capture_output=True, text=True, check=True)
    rules = listed.stdout.split("\n")[:-1]
    assert len(rules) > 120 and {r.split()[1] for r in rules} == {"KILL", "ENOSYS", "EAFNOSUPPORT"}
    host.create(id="one", cmdline="tick=0")
    assert attack(host, "rules") == [f"rule {r}" for r in rules]
    ran(host)


@pytest.mark.parametrize("rule", ["unshare", "ptrace", "prctl:SET_PDEATHSIG", "clone:NEWUSER"])
def test_a_denied_call_ends_the_vmm(host, rule):
    """Held by: seccomp, which ends the whole process, though it is init of a pid namespace."""
    events = host.events()
    host.create(id="one", cmdline="tick=0")
    host.send("one", f"attack rule {rule}\n")
    event = events.wait(event="state", sandbox="one", to="crashed")
    assert event["reason"] == "seccomp"
    found = host.get("one")["exit"]
    assert (found["cause"], found["signal"]) == ("seccomp", signal.SIGSYS)
    assert "Bad system call" in found["detail"]
    host.destroy("one")
    assert host.residue() == []


def test_every_thread_is_under_the_filter(host):
    box = host.create(id="one", cmdline="tick=0")
    threads = os.listdir(f"/proc/{box['vmm']['pid']}/task")
    assert len(threads) >= 2
    for tid in threads:
        with open(f"/proc/{box['vmm']['pid']}/task/{tid}/status") as f:
            text = f.read()
        assert "\nSeccomp:\t2\n" in text and "\nSeccomp_filters:\t3\n" in text


# ------------------------------------------------------------------ reaching others


def test_sockets_of_others(host):
    """Held by: the private root (names), the empty net namespace (abstract names, IP);
    CVE-2020-15257."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    host.create(id="two", cmdline="tick=0", vsock=True)
    refused = {"ENOENT", "ECONNREFUSED", "EPROTOTYPE"}
    for path in (host.control, f"{host.run_dir}/shims/admin:two.sock",
                 f"{host.run_dir}/shims/admin:one.sock", "/run/systemd/private"):
        assert {r.split()[1] for r in attack(host, f"connect {path}")} == {"ENOENT"}, path
    name = f"cloister-attack-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("\0" + name)
        listener.listen()
        listener.setblocking(False)
        assert {r.split()[1] for r in attack(host, f"connect @{name}")} <= refused
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {r.split()[1] for r in attack(host, "internet")} == {"ENETUNREACH"}
    ran(host, "two")


def test_processes_of_others(host):
    """Held by: the pid namespace, of which the VMM is init and sees nobody else; ptrace and the
    rest by seccomp (see the rules)."""
    host.create(id="one", cmdline="tick=0")
    other = host.create(id="two", cmdline="tick=0")["vmm"]["pid"]
    shim, = host.shim_pids("admin:one")
    spawner, = host.spawner_pids()
    for pid in (other, shim, spawner, host.daemon.pid):
        # Pids in there are other ones: those below the few of its own are its own, say.
        assert attack(host, f"kill {pid}")[0] == "one ESRCH"
    assert all(map(alive, (other, shim, spawner, host.daemon.pid)))
    ran(host)
    ran(host, "two")


def test_an_orphan_goes_with_its_vmm(host):
    """Held by: the pid namespace, which ends with its init."""
    host.create(id="one", cmdline="tick=0")
    assert attack(host, "orphan") == ["0"]
    assert len(host.vmm_pids()) == 2
    host.destroy("one")
    wait_for(lambda: host.residue() == [], what="nothing left")


# ------------------------------------------------------------------ getting out, changing the jail


def test_ways_out(host):
    """Held by: pivot_root, no /proc, no /sys, no directory left open (CVE-2024-21626)."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    assert attack(host, "dots") == ["root the same"] + ["open ENOENT"] * 5
    found = attack(host, "fds")
    assert len(found) == 1 and found[0].startswith("0 directories, 0 lead outside")
    # Only what it is to have, and no way to make another.
    devices = attack(host, "devices")
    assert {d.split()[1] for d in devices if d.startswith("has ")} <= {
        "kvm", "null", "urandom", "userfaultfd"}
    assert devices[-6:] == ["open ENOENT"] * 5 + ["create EROFS"]


def test_what_is_read_only(host):
    """Held by: read-only mounts and root's ownership; CVE-2019-5736 (the VMM's own binary)."""
    host.add_image("initramfs", "tiny", harness.GUEST)
    pid = host.create(id="one", cmdline="tick=0", initramfs="tiny")["vmm"]["pid"]
    with open(f"/proc/{pid}/mountinfo") as f:
        libs = [line.split()[4] for line in f if "/lib" in line.split()[4]]
    assert len(libs) >= 2
    was = os.stat(ATTACK)
    for path in ("/vmm", "/kernel", "/initramfs", *libs):
        found = dict(line.split() for line in attack(host, f"change {path}"))
        assert found.pop("read") == "OK", path
        assert set(found.values()) <= {"EROFS", "EACCES", "EPERM"}, (path, found)
    now = os.stat(ATTACK)
    assert (was.st_mtime_ns, was.st_size, was.st_mode) == (now.st_mtime_ns, now.st_size, now.st_mode)


def test_code_of_its_own(host):
    """Held by: noexec on all that it may write, no /proc to name memory by, no shell; execveat by
    seccomp."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    assert attack(host, "exec /vsock") == ["create OK", "fill OK", "map EPERM", "file EACCES",
                                           "memory ENOENT", "shell ENOENT"]


def test_capabilities(host):
    """Held by: all five sets being empty (CVE-2022-24769: inheritable too), no_new_privs."""
    host.create(id="one", cmdline="tick=0")
    found = attack(host, "caps")
    assert found[:3] == ["effective 0 permitted 0 inheritable 0 bounding 0 ambient 0",
                         "raise EPERM", "no_new_privs off EINVAL"]
    uid, gid = map(int, found[3].split()[1:])
    assert uid == gid and host.uid_base <= uid < host.uid_base + 512
    limits = attack(host, "limits")
    assert len(limits) >= 6 and {line.split()[1] for line in limits} == {"EPERM"}


# ------------------------------------------------------------------ taking more


def test_filling_file_systems(host):
    """Held by: root's ownership, sizes and inodes of each tmpfs, RLIMIT_FSIZE."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    amount, files = re.fullmatch(r"(\d+) bytes (\d+) files ENOSPC",
                                 attack(host, "fill /vsock")[0]).groups()
    assert int(amount) <= 65536 and int(files) < 64
    for path, why in (("/mem", "EACCES"), ("/snapshot", "EACCES"), ("/", "EROFS"),
                      ("/dev", "EROFS"), ("/restore", "EROFS")):
        assert attack(host, f"fill {path}") == [f"0 bytes 0 files {why}"], path
    assert attack(host, "grow") == ["truncate EFBIG", "allocate EFBIG", "write EFBIG"]
    ran(host)


def test_fork_bomb_and_memory_eater(host):
    """Held by: RLIMIT_NPROC, RLIMIT_AS, RLIMIT_MEMLOCK; by pids.max and memory.max where there is
    a cgroup."""
    host.create(id="one", cmdline="tick=0")
    count, why = attack(host, "fork")[0].split()
    assert 1 <= int(count) <= 65 and why == "EAGAIN"
    amount, lock = attack(host, "memory")
    size, unit, why = amount.split()
    assert int(size) <= 4096 + 64 + 32 and why == "ENOMEM" and lock == "lock EPERM"
    ran(host)


def test_shortened_memory(host):
    """Held by: the shim's check of the file: a set of less than the guest's memory is none."""
    host.create(id="one", cmdline="tick=0")
    found = dict(line.split() for line in attack(host, "change /mem/ram"))
    assert found["truncate"] == "OK"  # it is the VMM's own, after all
    for call in ("unlink", "rename", "link", "symlink", "mkdir", "create"):
        assert found[call] == "EACCES", call
    answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"})
    assert answer.status == REFUSED and "memory ends at 0 of" in answer.json["detail"]
    assert host.api("GET", "/v1/templates").json["templates"] == []
    host.destroy("one")
    assert host.residue() == []


def test_what_is_put_into_a_lent_snapshot_directory(host):
    """Held by: a tmpfs of 4 MiB and 16 inodes that is noexec and nodev; files are opened without
    following, links to other mounts cannot be made. The VMM spoils its own snapshot only."""
    host.create(id="one", cmdline="tick=0")
    host.create(id="two", cmdline="tick=0")
    attack(host, "lend")
    before = len(host.console("one"))
    answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"})
    assert answer.status == 502, answer
    found = parse(host.console("one")[before:], "lend")
    assert found[:10] == [
        "mkdir OK", "symlink OK", "link EXDEV", "link memory EXDEV", "up EACCES", "exec create OK",
        "exec fill OK", "exec map EPERM", "exec file EACCES", "exec memory ENOENT"]
    amount, files = re.fullmatch(r"fill (\d+) bytes (\d+) files ENOSPC", found[-1]).groups()
    assert int(amount) <= 4 << 20 and int(files) <= 16
    assert host.api("GET", "/v1/templates").json["templates"] == []
    ran(host)
    # Nothing of that stays in the way: of this sandbox, or of another one.
    for box, template in (("one", "warm"), ("two", "other")):
        answer = host.api("POST", f"/v1/sandboxes/{box}/snapshot", {"template": template})
        assert answer.status in (200, 201), answer
        assert host.api("DELETE", f"/v1/templates/{template}").status in (200, 204)


# ------------------------------------------------------------------ hostile answers

SHORT = "pause_ms = 300\nresume_ms = 300\nsnapshot_ms = 3000\ndestroy_ms = 3000\n"
# What is said in place of the answer to vm.pause, and what the client is told. Held by: a parser
# that is strict about where a message ends (common/http.c), bounds, deadlines.
ANSWERS = {
    **dict.fromkeys(
        ("length-negative", "length-overflow", "length-huge", "length-text", "length-hex",
         "length-empty", "length-list", "length-twice", "length-blank", "both", "chunked",
         "chunked-bad", "chunked-huge", "encoding", "nul", "folded", "no-colon", "bare-cr",
         "no-status", "status-short", "status-long", "status-zero", "status-sign", "redirect",
         "switch", "http2", "http9", "other", "request", "escape", "utf8", "nul-body", "not-json",
         "no-body", "head", "headers", "interims", "endless-headers", "endless-body",
         "interim-storm", "shut"), (REFUSED,)),
    # The right answer, with something beside it that is nobody's.
    **dict.fromkeys(("unasked", "trailing", "unasked-storm", "fds-1", "fds-253"), (200,)),
    "urgent": (200, REFUSED),  # out of band or in it: the kernel's choice
    "dribble": (LATE,), "never": (LATE,),
}
# In place of that to vm.counters, and of that to vm.info behind it ("+").
JSON_ANSWERS = ["json-utf8", "json-nul", "json-number", "json-minus", "json-type", "json-list",
                "json-none", "json-escape", "json-deep-list", "json-deep-object", "json-many",
                "chunked", "head", "no-body"]


def is_clean(answer):
    """One line of printable text, whatever the VMM said."""
    assert answer.json["detail"] and all(" " <= c <= "~" for c in answer.json["detail"]), answer


def idle(pid):
    """The process does not turn in circles."""
    ticks, end = cpu_ticks(pid), time.monotonic() + 0.5
    wait_for(lambda: time.monotonic() > end)
    return cpu_ticks(pid) - ticks < 5


class Watched:
    """A sandbox whose shim must come out of whatever its VMM does as it went in."""

    def __init__(self, host, **spec):
        self.host = host
        self.box = host.create(id="one", cmdline="tick=0", **spec)
        self.shim, = host.shim_pids("admin:one")
        self.fds, self.kib = self._fds(), status_kib(self.shim, "VmRSS")

    def _fds(self):
        return len(os.listdir(f"/proc/{self.shim}/fd"))

    def check(self, what, kib=1536):
        assert alive(self.shim), what
        assert self._fds() <= self.fds, what
        grown = status_kib(self.shim, "VmHWM") - self.kib
        assert grown < kib, (what, grown)
        assert self.host.get("one")["state"] in ("running", "paused"), what

    def end(self, what):
        assert self.host.destroy("one")["exit"]["cause"] == "destroyed", what
        assert not alive(self.shim), what


def test_hostile_answers(make_host):
    """The client is told, in clean words; the shim is none the worse, answers others meanwhile, and
    the sandbox can be ended."""
    host = make_host(limits=SHORT)
    for kind, statuses in harness.some(ANSWERS.items(), 2):
        box = Watched(host)
        attack(host, f"answer {kind}")
        answer = host.api("POST", "/v1/sandboxes/one/pause")
        assert answer.status in statuses, (kind, answer)
        if answer.status != 200:
            is_clean(answer)
        # Its console is still served, and at once.
        assert "ATTACK answer done" in host.console("one"), kind
        box.check(kind)
        if "storm" in kind or "endless" in kind:
            assert idle(box.shim), kind
        box.end(kind)
    assert host.residue() == []


def test_hostile_json(make_host):
    """Held by: cJSON's own bound of depth, a scanner without recursion for the counters, numbers
    checked before they are converted."""
    host = make_host(limits=SHORT)
    for kind in harness.some(prefix + k for k in JSON_ANSWERS for prefix in ("", "+")):
        box = Watched(host)
        attack(host, f"answer {kind}")
        answer = host.api("GET", "/v1/sandboxes/one/counters")
        assert answer.status == REFUSED, (kind, answer)
        is_clean(answer)
        box.check(kind)
        box.end(kind)
    assert host.residue() == []


# ------------------------------------------------------------------ hostile snapshots

# What becomes of a snapshot whose files are tampered with between their being written and the
# answer. Held by: the directory is taken back first, then fchownat and openat without following or
# waiting, regular files of one link only, bounded, and only a copy counts (shim/snapshot.c).
FILES = {
    **dict.fromkeys(("two-names", "sparse", "empty", "gone", "directory", "link-out", "link-in",
                     "link-loop", "link-proc", "socket", "closed", "nested"), (REFUSED,)),
    **dict.fromkeys(("lock", "names", "deep", "forge", "many"), (201,)),
    # Won or lost, or seen by the shim: it is a whole JSON text that is copied, or none.
    **dict.fromkeys(("rewrite", "shrink", "swap", "ram"), (201, REFUSED)),
    "lease": (201, REFUSED),
}


def test_hostile_snapshot_files(make_host):
    host = make_host(limits=SHORT)
    host.create(id="other", cmdline="tick=0")
    for kind, statuses in FILES.items():
        box = Watched(host)
        attack(host, f"after {kind}")
        answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"})
        assert answer.status in statuses, (kind, answer)
        found = parse(host.console("one"), "after")
        assert found and not any(line.endswith("unknown") for line in found), (kind, found)
        if answer.status != 201:
            is_clean(answer)
        sets = os.listdir(os.path.join(host.state_dir, "templates"))
        assert sets == (["admin:warm"] if answer.status == 201 else []), kind
        for name in sets:
            is_our_set(os.path.join(host.state_dir, "templates", name), kind)
        # A state.json is read as a whole, and no more is made of it.
        box.check(kind, 6 << 10)
        if answer.status == 201:
            assert host.api("DELETE", "/v1/templates/warm").status in (200, 204)
        # It stands in the way of nothing: not of the next one where nobody goes on with it.
        if kind not in ("rewrite", "shrink", "ram", "swap"):
            again = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "again"})
            assert again.status == 201, (kind, again)
            assert host.api("DELETE", "/v1/templates/again").status in (200, 204)
        box.end(kind)
        ran(host, "other")
    host.destroy("other")
    assert host.residue() == []


def test_hostile_files_of_a_map_clone(make_host):
    """Its memory is private to the VMM, which therefore writes it itself, to a disk of the host's."""
    host = make_host(limits="snapshot_ms = 1000")
    host.create(id="source", cmdline="tick=0")
    assert host.api("POST", "/v1/sandboxes/source/snapshot", {"template": "t"}).status == 201
    for kind, status in (("deep", 201), ("link-out", REFUSED), ("closed", REFUSED)):
        host.api("POST", "/v1/sandboxes", {"id": "one", "template": "t", "memory_restore": "map"})
        attack(host, f"after {kind}")
        answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"})
        assert answer.status == status, (kind, answer)
        if status == 201:
            assert host.api("DELETE", "/v1/templates/warm").status in (200, 204)
        host.destroy("one")
        assert os.listdir(os.path.join(host.state_dir, "sandboxes")) == [], kind
    # Ended in the middle of it, with all that still there: the spawner clears up.
    host.api("POST", "/v1/sandboxes", {"id": "one", "template": "t", "memory_restore": "map"})
    attack(host, "after deep")
    attack(host, "answer +never")
    host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"}, timeout=60)
    host.destroy("one")
    host.destroy("source")
    assert host.api("DELETE", "/v1/templates/t").status in (200, 204)
    assert host.residue() == []


def is_our_set(path, kind):
    """Made by the shim, of its own configuration and of no file but those that it knows."""
    assert sorted(os.listdir(path)) == ["config.json", "meta", "ram", "state.json"], kind
    for name in os.listdir(path):
        st = os.lstat(os.path.join(path, name))
        assert stat.S_ISREG(st.st_mode) and (st.st_uid, st.st_nlink) == (0, 1), (kind, name)
        assert stat.S_IMODE(st.st_mode) == 0o444, (kind, name)
    with open(os.path.join(path, "config.json"), encoding="ascii") as f:
        config = json.load(f)
    assert config["payload"]["kernel"] == "/kernel" and "disks" not in config, kind
    assert "forged" not in json.dumps(config), kind
    with open(os.path.join(path, "state.json"), encoding="ascii") as f:
        json.load(f)


# ------------------------------------------------------------------ what it was given


def test_terminal_tricks(host):
    """Held by: the slave of a pty of its own: no other end, none to open, nobody who reads what it
    writes or heeds its modes; TIOCSTI and line disciplines by seccomp (see the rules)."""
    box = Watched(host)
    found = dict(line.rsplit(" ", 1) for line in attack(host, "tty"))
    assert {found[what] for what in ("other end", "packets", "lock")} <= {"ENOTTY", "EIO"}, found
    assert (found["own"], found["hangup"]) == ("ENOENT", "EPERM"), found
    assert found["fill"] in ("EAGAIN", "endless"), found
    # Its input still goes there, and is bounded where it does not take it.
    answers = [host.api("POST", "/v1/sandboxes/one/console", raw=b"x" * 30000).status
               for _ in range(8)]
    assert set(answers) <= {200, 503}, answers
    assert idle(box.shim)
    box.check("tty")
    box.end("tty")


def test_terminal_without_an_end(host):
    """A VMM that lets go of its terminal while input waits for it does not wake the shim for ever."""
    box = Watched(host)
    attack(host, "hangup")
    # More than the kernel keeps for a terminal that nobody has.
    for _ in range(8):
        host.api("POST", "/v1/sandboxes/one/console", raw=b"x" * 30000)
    assert idle(box.shim)
    box.check("hangup")
    box.end("hangup")


def test_api_socket_is_nobody_elses(host):
    """Held by: it was connected before the VMM began, and its name was taken away; the net
    namespace, in which even a name that the kernel picks is the sandbox's own."""
    box = Watched(host)
    found = dict(line.split(" ", 1) for line in attack(host, "api"))
    assert found["connect"] in ("ENOENT", "EACCES", "ECONNREFUSED"), found
    assert (found["listen"], found["accept"], found["autobind"]) == ("OK", "EAGAIN", "OK"), found
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect("\0" + found["abstract"])
    host.create(id="two", cmdline="tick=0")
    assert {r.split()[1] for r in attack(host, f"connect @{found['abstract']}", "two")} <= {
        "ECONNREFUSED", "EPROTOTYPE"}
    assert host.act("one", "pause")["state"] == "paused"
    box.check("api")


def test_descriptors_on_the_event_channel(host):
    """Held by: recv(2) without room for any: the kernel lets them go."""
    box = Watched(host)
    assert attack(host, "rights") == ["OK"]
    box.check("rights")


def test_floods_from_inside(make_host):
    """Held by: budgets for each stream, non-blocking pipes (shim/output.c)."""
    host = make_host(limits="console_bytes = 65536")
    box = Watched(host)
    host.send("one", "attack flood\n")
    host.wait_console("one", "\x1b" * 10)
    for _ in range(5):
        assert host.act("one", "pause")["state"] == "paused"
        assert host.act("one", "resume")["state"] == "running"
    assert len(host.console("one")) <= 65536
    box.check("flood")
    box.end("flood")
    log = host.log()
    assert len(log) < 2 << 20 and "\x1b" not in log


def test_words_for_terminals_and_logs(host):
    """Held by: str_clean() on what the VMM says, before anybody else has it."""
    box = Watched(host)
    events = host.events()
    attack(host, "speak")
    box.check("speak")
    host.send("one", "attack rule ptrace\n")
    event = events.wait(event="state", sandbox="one", to="crashed")
    client = [os.path.join(harness.BUILD, "cloister"), "-s", host.control]
    texts = [host.get("one")["exit"]["detail"], json.dumps(event, ensure_ascii=False)]
    for args in (["inspect", "one"], ["ls"], ["ls", "--json"]):
        texts.append(subprocess.run(client + args, capture_output=True, text=True,
                                    check=True).stdout)
    texts += host.log().splitlines()
    for text in texts:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]", text), ascii(text)
    # Nor can a line of it pass for one of ours.
    assert not any(line.startswith("cloisterd: notice") for line in texts)


def test_priorities_and_others_limits(host):
    """Held by: the filters that a VMM inherits (SIGSYS), and under them no capability, RLIMIT_NICE,
    RLIMIT_RTPRIO and RLIMIT_MEMLOCK of 0, pid namespace."""
    host.create(id="one", cmdline="tick=0")
    found = dict(line.split() for line in attack(host, "priority"))
    for word in ("nice", "root", "fifo", "deadline", "io"):
        assert found[word] == "SIGSYS", found
    assert {found[w] for w in ("other", "affinity")} <= {"ESRCH", "SIGSYS"}, found
    assert found["oom"] == "ENOENT" and found["lock"] in ("EPERM", "ENOMEM", "SIGSYS"), found
    assert found["huge"] in ("ENOMEM", "EPERM")
    assert host.get("one")["state"] == "running"


def test_descriptors_used_up(host):
    """Held by: RLIMIT_NOFILE and the kernel's own bounds per user; RLIMIT_FSIZE for memory; inotify
    by the filters that a VMM inherits."""
    box = Watched(host)
    found = dict(line.split() for line in attack(host, "descriptors"))
    assert found.pop("large") == "EFBIG"
    assert found.pop("inotify") == "SIGSYS"
    assert len(found) == 5 and set(found.values()) <= {"EMFILE", "ENFILE"}, found
    host.create(id="two", cmdline="tick=0")
    box.check("descriptors")
