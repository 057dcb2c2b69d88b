# SPDX-License-Identifier: Apache-2.0
"""A cloisterd of a test's own, on a throw-away tree, and what is needed to look at it from outside.

Nothing here sleeps for a fixed time: every wait polls a condition and has a deadline.
"""
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.abspath(os.path.join(HERE, "..", ".."))
BUILD = os.path.abspath(os.environ.get("CLOISTER_BUILD", os.path.join(TOP, "build")))
SANITIZED = os.path.basename(BUILD) == "san"
# The stand-in runs in a jail without /proc, where no sanitizer works: it is always a plain build.
STANDIN = os.path.join(TOP, "build", "tests", "standin", "cloud-hypervisor")
GUEST = os.path.join(TOP, "build", "tests", "guest", "guest.elf")
BARE = os.path.join(BUILD, "tests", "bare", "cloisterd")  # that knows of no Landlock
PRELOAD = os.path.join(TOP, "build", "tests", "preload", "nested_state.so")
REAL = shutil.which("cloud-hypervisor")
LINUX_GUEST = os.environ.get("CLOISTER_LINUX_GUEST")
CGROUP_MOUNT = next(
    (line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup2 " in line), None)

USER_UID = 64101      # the supervisor's
TENANT_UIDS = {"alice": 64201, "bob": 64202}
STRANGER_UID = 64301  # of no tenant
CONTROL_GID = 64100
UID_LOCK = "/run/lock/cloister-test-uids"
UID_FIRST, UID_STEP, UID_RANGES = 200_000_000, 1024, 100_000


def take_uids():
    """
    (first uid of a range, descriptor): nobody else's, in whatever process, while that is open. Whoever
    clears up after a test ends all shims of its range.
    """
    fd = os.open(UID_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for i in range(UID_RANGES):
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, i, 1, 0)
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.fcntl(fd, 37, lock)  # F_OFD_SETLK: it goes with the descriptor
            return UID_FIRST + i * UID_STEP, fd
    raise AssertionError("no range of uids is free")


def alive(pid):
    """Whether the process still runs; one that nobody has reaped yet does not."""
    with contextlib.suppress(OSError, IndexError):
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


def landlock_abi():
    """What the kernel answers; 0: it has none."""
    version = _libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1))
    return max(version, 0)


def have_kvm():
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def wait_for(condition, timeout=10, what="condition"):
    """Polls until condition() gives something true, and returns that."""
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def some(cases, step=3):
    """All of them; where sanitizers make every process slow to start, only each so-manieth."""
    return list(cases)[::step if SANITIZED else 1]


_libc = ctypes.CDLL(None, use_errno=True)
_SYS_setresuid, _SYS_setresgid = 117, 119


@contextlib.contextmanager
def as_user(uid, gid=None):
    """This thread alone acts as uid (the raw system calls do not tell other threads)."""
    def call(number, *ids):
        args = [ctypes.c_long(i) for i in ids]
        if _libc.syscall(ctypes.c_long(number), *args) != 0:
            raise OSError(ctypes.get_errno(), "setres[ug]id")
    call(_SYS_setresgid, -1, gid if gid is not None else uid, -1)
    call(_SYS_setresuid, -1, uid, -1)
    try:
        yield
    finally:
        call(_SYS_setresuid, -1, 0, -1)
        call(_SYS_setresgid, -1, 0, -1)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, uid=0, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path, self.uid = path, uid

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        if self.uid:
            with as_user(self.uid, CONTROL_GID):
                self.sock.connect(self.path)
        else:
            self.sock.connect(self.path)


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, dict(response.getheaders()), body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


class Events:
    """GET /v1/events, read by a thread; `seen` holds the decoded lines in order."""

    def __init__(self, path, query="", uid=0):
        self.connection = UnixConnection(path, uid, timeout=60)
        self.connection.request("GET", "/v1/events" + query)
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.seen, self.times = [], []
        self.closed = False
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while True:
                line = self.response.readline()
                now = time.monotonic()
                if not line:
                    break
                if line.strip():
                    with self.changed:
                        self.seen.append(json.loads(line))
                        self.times.append(now)
                        self.changed.notify_all()
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def wait(self, timeout=10, **want):
        """The first event whose fields are as given."""
        def find():
            return next((e for e in self.seen
                         if all(e.get(k) == v for k, v in want.items())), None)
        with self.changed:
            if not self.changed.wait_for(lambda: find() or self.closed, timeout) or not find():
                raise AssertionError(f"no event {want} within {timeout} s; seen: {self.seen}")
            return find()

    def close(self):
        with contextlib.suppress(OSError, AttributeError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, AttributeError):
            self.connection.close()


def processes(match):
    """Pids whose command line satisfies match(list of arguments)."""
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                argv = f.read().split(b"\0")
            if match([a.decode(errors="replace") for a in argv]):
                found.append(int(pid))
    return found


class Host:
    """
    One cloisterd with its tree; `vmm` is a path, `name` says which kind it is. With state_root,
    state_dir is a directory of its own in there: on another file system.
    """

    def __init__(self, vmm, name="standin", config="", vmm_config="", limits="", tenants=True,
                 require_limits="no", state_root=None, uid_count=512):
        self.vmm, self.name = vmm, name
        self.base = tempfile.mkdtemp(prefix="cloister-test-", dir="/var/tmp")
        os.chmod(self.base, 0o755)
        tag = os.path.basename(self.base)[len("cloister-test-"):]
        self.run_dir = f"/run/cloister-test-{tag}"
        self.state_dir = os.path.join(state_root or self.base, f"state-{tag}" if state_root
                                      else "state")
        self.cgroup = f"cloister-test-{tag}"
        self.uid_base, self.uid_lock = take_uids()
        self.uid_count = uid_count
        self.config_path = os.path.join(self.base, "cloisterd.conf")
        self.log_path = os.path.join(self.base, "log")
        self.control = os.path.join(self.run_dir, "control.sock")
        self.daemon = None
        self.binary = None  # another cloisterd than BUILD's, with the shim that lies beside it
        self.events_open = []
        tenant_text = "".join(f"[tenant {n}]\nusers = {u}\n" for n, u in TENANT_UIDS.items())
        with open(self.config_path, "w") as f:
            f.write(f"""[host]
state_dir = {self.state_dir}
run_dir = {self.run_dir}
user = {USER_UID}
control_group = {CONTROL_GID}
cgroup = {self.cgroup}
require_limits = {require_limits}
[vmm]
binary = {vmm}
uid_base = {self.uid_base}
uid_count = {uid_count}
{vmm_config}
[limits]
{limits}
{tenant_text if tenants else ""}
{config}
""")

    # -- life of the daemon

    def start(self, binary=None, timeout=20, log_level="debug"):
        """Starts cloisterd and waits for READY=1; an exit before that is an AssertionError."""
        self.daemon = self.spawn(binary, log_level)
        wait_for(lambda: self.ready() or self.daemon.poll() is not None, timeout,
                 f"READY=1; log: {self.log_tail()}")
        assert self.daemon.poll() is None, f"cloisterd ended: {self.log_tail()}"
        if not self.kernels():
            self.add_image("kernels", "tiny", GUEST)
        return self

    def spawn(self, binary=None, log_level="debug", extra=(), wrapper=()):
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        notify_path = os.path.join(self.base, "notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(notify_path)
        self.notify.bind(notify_path)
        os.chmod(notify_path, 0o666)
        env = {"NOTIFY_SOCKET": notify_path, "PATH": os.environ["PATH"]}
        if SANITIZED:
            # LeakSanitizer traces its own process, which ours forbid; the unit tests look for leaks.
            env["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1:disable_coredump=1"
            env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
        self.notified = b""
        with open(self.log_path, "ab") as log:
            return subprocess.Popen(
                [*wrapper, binary or self.binary or os.path.join(BUILD, "cloisterd"), "--config", self.config_path,
                 "--log-level", log_level, *extra],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def ready(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notified += self.notify.recv(4096) + b"\n"
        return b"READY=1" in self.notified

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def log_tail(self):
        return "...\n" + self.log()[-3000:]

    def stop(self, sig=signal.SIGTERM, timeout=10):
        """Ends cloisterd and waits until its spawner has gone too; gives the exit status."""
        spawners = self.spawner_pids()
        self.daemon.send_signal(sig)
        status = self.daemon.wait(timeout)
        # A shim that was just being started looked like one.
        wait_for(lambda: not any(alive(p) and p in self.spawner_pids() for p in spawners), timeout,
                 "the spawner's end")
        return status

    def close(self):
        """
        Ends everything and proves that nothing is left; called by the fixture. Once only: its range
        of uids is another's after that, in whose processes it would see residue of its own.
        """
        if self.uid_lock is None:
            return
        for events in self.events_open:
            events.close()
        problems = []
        try:
            if self.daemon and self.daemon.poll() is None:
                for tenant in [None, *TENANT_UIDS]:
                    for box in self.list(tenant):
                        self.destroy(box["id"], tenant=box["tenant"])
                problems += self.residue()
                problems += [f"record {name}" for name in self.records()]
                self.stop()
            problems += self.residue(running=False)
            log = self.log() if os.path.exists(self.log_path) else ""
            for word in ("AddressSanitizer", "runtime error:", "*** stack smashing"):
                if word in log:
                    problems.append(f"{word} in the log:\n{log[-6000:]}")
        finally:
            self.cleanup()
        assert not problems, "\n".join(problems)

    def cleanup(self):
        """Removes all that this test made, whatever state it is in; once only, as close()."""
        if self.uid_lock is None:
            return
        if self.daemon and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait(10)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.spawner_pids(), 5)
        for pid in self.shim_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.vmm_pids(), 5)
        if CGROUP_MOUNT:
            for path, _, _ in os.walk(os.path.join(CGROUP_MOUNT, self.cgroup), topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        shutil.rmtree(self.base, ignore_errors=True)
        shutil.rmtree(self.state_dir, ignore_errors=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        os.close(self.uid_lock)
        self.uid_lock = None

    # -- what is there, seen from outside

    def kernels(self):
        return os.listdir(os.path.join(self.state_dir, "images", "kernels"))

    def add_image(self, kind, name, source, mode=0o444):
        path = os.path.join(self.state_dir, "images", kind, name)
        shutil.copyfile(source, path)
        os.chmod(path, mode)
        return path

    def instance(self):
        with open(os.path.join(self.state_dir, "instance")) as f:
            return f.read().strip()

    def records(self):
        """Names of the store's records, also those that are being made."""
        return sorted(n for n in os.listdir(os.path.join(self.state_dir, "store"))
                      if n.endswith((".json", ".creating")))

    def record_path(self, key):
        return os.path.join(self.state_dir, "store", f"{key}.json")

    def cgroup_path(self, key=""):
        return os.path.join(CGROUP_MOUNT, self.cgroup, self.instance(), key)

    def cgroup_is_used(self, key):
        """A process that is dead may still have threads that are on their way out."""
        with contextlib.suppress(OSError), \
                open(os.path.join(self.cgroup_path(key), "cgroup.events")) as f:
            return "populated 1" in f.read()
        return False

    def uses_our_uids(self, pid):
        with contextlib.suppress(OSError, StopIteration):
            with open(f"/proc/{pid}/status") as f:
                uid = int(next(l for l in f if l.startswith("Uid:")).split()[1])
            return self.uid_base <= uid < self.uid_base + self.uid_count
        return False

    def vmm_pids(self):
        return [int(p) for p in os.listdir("/proc") if p.isdigit() and self.uses_our_uids(p)
                and not self._waits_for_init(p)]

    def _waits_for_init(self, pid):
        """A dead one whose shim and spawner are dead too; when it goes is the host's business."""
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat") as f:
                state, parent = f.read().rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                return False
            with open(f"/proc/{parent}/cmdline") as f:
                return not f.read().startswith("cloister-shim")
        return False

    def spawner_pids(self):
        return [p for p in processes(lambda a: a[:2] == ["cloister-shim", "spawn"])
                if self._is_ours(p)]

    def shim_pids(self, key=None):
        return [p for p in processes(lambda a: a[0] == "cloister-shim" and len(a) > 2 and ":" in a[1]
                                     and (key is None or a[1] == key)
                                     and self.uid_base <= int(a[2] or 0) < self.uid_base + self.uid_count)]

    def _is_ours(self, pid):
        # The spawner's own mount namespace shows its run directory.
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/mountinfo") as f:
                return f" {self.run_dir} " in f.read()
        return False

    def residue(self, running=True):
        """What a sandbox may have left: each line names one thing."""
        found = [f"VMM process {p}" for p in self.vmm_pids()]
        found += [f"shim process {p}" for p in self.shim_pids()]
        for sub in ("shims", "new"):
            with contextlib.suppress(FileNotFoundError):
                found += [f"{self.run_dir}/{sub}/{n}"
                          for n in os.listdir(os.path.join(self.run_dir, sub))]
        for sub in ("sandboxes", "templates"):
            with contextlib.suppress(FileNotFoundError):
                found += [f"{self.state_dir}/{sub}/{n}"
                          for n in os.listdir(os.path.join(self.state_dir, sub))]
        if CGROUP_MOUNT and os.path.exists(os.path.join(self.state_dir, "instance")):
            for path, dirs, _ in os.walk(self.cgroup_path()):
                found += [f"cgroup {path}/{d}" for d in dirs]
        for pid in ["self", *self.spawner_pids()]:
            with open(f"/proc/{pid}/mountinfo") as f:
                found += [f"mount in {pid}: {line.strip()}" for line in f
                          if line.split()[4].startswith("/jail/") or self.run_dir in line.split()[4]
                          and pid == "self" or self.base in line.split()[4] and pid == "self"]
        if running:
            for pid in self.spawner_pids():
                with contextlib.suppress(OSError):
                    fds = os.listdir(f"/proc/{pid}/fd")
                    if len(fds) > 24:
                        found.append(f"spawner {pid} has {len(fds)} descriptors")
        elif os.path.exists(self.control):
            found.append(self.control)
        found += self._held_namespaces()
        return found

    def _held_namespaces(self):
        """A namespace without a process lives on only while a mount or a descriptor holds it."""
        found = []
        daemon = [self.daemon.pid] if self.daemon and self.daemon.poll() is None else []
        for pid in [*daemon, *self.spawner_pids()]:
            with contextlib.suppress(OSError):
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        target = os.readlink(f"/proc/{pid}/fd/{fd}")
                        if target.split(":")[0] in ("net", "mnt", "pid", "ipc", "uts") \
                                and target.endswith("]"):
                            found.append(f"{target} held by descriptor {fd} of {pid}")
        for pid in ["self", *self.spawner_pids()]:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/mountinfo") as f:
                found += [f"namespace pinned in {pid}: {line.strip()}" for line in f
                          if " - nsfs " in line and self.run_dir in line]
        return found

    # -- the control API

    def api(self, method, path, body=None, uid=0, timeout=30, headers=None, raw=None):
        """uid 0 is the admin; raw sends bytes as they are."""
        connection = UnixConnection(self.control, uid, timeout)
        try:
            data = raw if raw is not None else None if body is None else json.dumps(body)
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return Answer(response, response.read())
        finally:
            connection.close()

    def tenant_query(self, tenant, query=""):
        parts = [q for q in ([f"tenant={tenant}"] if tenant not in (None, "admin") else []) + [query] if q]
        return "?" + "&".join(parts) if parts else ""

    def create(self, expect=201, uid=0, query="", **spec):
        spec.setdefault("kernel", "tiny")
        spec.setdefault("memory_mib", 32)
        answer = self.api("POST", "/v1/sandboxes" + query, spec, uid=uid)
        assert answer.status == expect, answer
        return answer.json

    def get(self, box, uid=0):
        return self.api("GET", f"/v1/sandboxes/{box}", uid=uid).json

    def list(self, tenant=None):
        answer = self.api("GET", "/v1/sandboxes" + self.tenant_query(tenant))
        assert answer.status == 200, answer
        return answer.json["sandboxes"]

    def act(self, box, action, expect=200, uid=0):
        answer = self.api("POST", f"/v1/sandboxes/{box}/{action}", uid=uid)
        assert answer.status == expect, answer
        return answer.json

    def destroy(self, box, expect=200, query="", tenant=None, uid=0):
        answer = self.api("DELETE", f"/v1/sandboxes/{box}" + self.tenant_query(tenant, query),
                          uid=uid)
        assert answer.status == expect, answer
        return answer.json

    def console(self, box, tail=65536, uid=0):
        answer = self.api("GET", f"/v1/sandboxes/{box}/console?tail={tail}", uid=uid)
        assert answer.status == 200, answer
        return answer.body.decode(errors="replace")

    def send(self, box, text):
        answer = self.api("POST", f"/v1/sandboxes/{box}/console", raw=text.encode())
        assert answer.status == 200, answer
        return answer.json

    def wait_console(self, box, text, timeout=15):
        wait_for(lambda: text in self.console(box), timeout,
                 f"{text!r} on the console of {box}")

    def wait_state(self, box, state, timeout=15):
        return wait_for(lambda: (lambda b: b if b.get("state") == state else None)(self.get(box)),
                        timeout, f"state {state} of {box}")

    def events(self, query="", uid=0):
        events = Events(self.control, query, uid)
        self.events_open.append(events)
        return events
