# SPDX-License-Identifier: Apache-2.0
"""The matrix of faults: {supervisor, spawner, shim, VMM} x operations x every step.

A cell is one operation in which one process is killed right before or right after its K-th step
(tests/faults/calls.h says what a step is), or in which that call fails. What is killed is started
again where it has to be, and then it is looked at what must hold whatever happened (Series.check):
a bystander is as it was, the subject is where it may be, no half object is seen, nothing is left,
and what the client was told is true.

One host serves a whole series: the subject stays where it can, so that a cell takes little more
than its operation.
"""
import contextlib
import http.client
import os
import signal
import time

import diskmodel
import harness
import networld
from harness import alive, wait_for
from test_connect import UPGRADE
from test_snapshot import ask, checksum
from tracer import Tracer

ROLES = ("supervisor", "spawner", "shim", "vmm")
HOWS = ("before", "after")
SUBJECT, BYSTANDER, BASE, MADE = "x", "by", "base", "t"
GONE = "gone"           # no such sandbox
LIVE = ("running", "paused")
LOST = None             # the answer never came
DISK_MIB = 2
CAUSE = {"shim": "shim-lost", "vmm": "vmm-killed"}


class Operation:
    """
    start: the subject's state before it, target: after it succeeded. kept: the states that it may
    be in after a death of supervisor or spawner; dead: of shim or VMM.
    """

    def __init__(self, name, start, target, run, roles=ROLES, kept=None, dead=("crashed",),
                 born=False, dies=False):
        self.name, self.start, self.target, self.run, self.roles = name, start, target, run, roles
        self.kept, self.dead = kept or {start, target}, set(dead)
        self.born = born    # it makes the shim and the VMM
        self.dies = dies    # it ends them


def _create(**spec):
    def run(series):
        return series.post("/v1/sandboxes", {"id": SUBJECT, **spec})
    return run


def _act(action, body=None):
    return lambda series: series.post(f"/v1/sandboxes/{SUBJECT}/{action}", body)


def _connect(series):
    """A word with the guest through vsock; the status of the answer."""
    connection = harness.UnixConnection(series.host.control, timeout=4)
    with contextlib.suppress(OSError, IndexError, ValueError):
        connection.connect()
        with connection.sock as sock:
            sock.sendall(f"GET /v1/sandboxes/{SUBJECT}/connect?port=1024&timeout_ms=1000 "
                         f"HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\nGET / HTTP/1.0\r\n\r\n".encode())
            text = b""
            while piece := sock.recv(4096):
                text += piece
            return int(text.split()[1])
    return LOST


RICH = {"kernel": "tiny", "cmdline": "tick=0", "memory_mib": 32, "max_vcpus": 2, "vsock": True,
        "disks": [{"image": "disk", "size_mib": DISK_MIB}, {"image": "disk", "readonly": True}],
        "network": {"egress": "internet", "ports": [{"guest": 80}]}}
PLAIN = {"kernel": "tiny", "cmdline": "tick=0", "memory_mib": 16}

OPERATIONS = {o.name: o for o in (
    Operation("create", GONE, "running", _create(**PLAIN), dead=(GONE,), born=True),
    Operation("create-rich", GONE, "running", _create(**RICH), dead=(GONE,), born=True),
    Operation("create-map", GONE, "running", _create(template=BASE, memory_restore="map"),
              dead=(GONE,), born=True),
    Operation("create-copy", GONE, "running", _create(template=BASE, memory_restore="copy"),
              dead=(GONE,), born=True),
    Operation("pause", "running", "paused", _act("pause")),
    # A failed resume ends the VMM and leaves it failed.
    Operation("resume", "paused", "running", _act("resume"), dead=("crashed", "failed")),
    Operation("snapshot", "running", "running", _act("snapshot", {"template": MADE}),
              dead=("crashed", "failed")),
    Operation("hibernate", "running", "hibernated", _act("hibernate"), dies=True,
              kept={"running", "hibernated"}, dead=("crashed", "failed", "hibernated")),
    Operation("wake", "hibernated", "running", _act("wake"), born=True,
              dead=("hibernated", "crashed")),
    Operation("balloon", "running", "running", _act("balloon", {"target_mib": 4})),
    Operation("resize", "running", "running", _act("resize", {"vcpus": 2})),
    Operation("connect", "running", "running", _connect),
    Operation("destroy", "running", GONE,
              lambda series: series.call("DELETE", f"/v1/sandboxes/{SUBJECT}"), dead=(GONE,),
              dies=True),
    Operation("template-delete", "running", "running",
              lambda series: series.call("DELETE", f"/v1/templates/{MADE}"),
              roles=("supervisor", "spawner")),
    # An adoption: cloisterd is started while the subject runs, or hibernates.
    Operation("restart", "running", "running", None, roles=("supervisor", "spawner", "shim")),
    Operation("restart-asleep", "hibernated", "hibernated", None, roles=("supervisor", "spawner")),
)}


class Failed(Exception):
    """A cell is not as it must be."""


def must(condition, *what):
    if not condition:
        raise Failed(" ".join(str(w) for w in what))


class Series:
    """A host with a bystander and a template; the subject comes and goes."""

    def __init__(self, vmm, name, options="", binary=None):
        self.name, self.options = name, options
        self.binary = binary or os.path.join(harness.BUILD, "cloisterd")
        self.world = networld.World()
        preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}\n" \
            if name == "ch" else ""
        self.host = networld.NetHost(vmm, name, self.world, tenants=False, vmm_config=preload,
                                     limits=options)
        self.wrapper = os.path.join(self.host.base, "stopped")
        with open(self.wrapper, "w") as f:
            f.write(f'#!/bin/sh\nkill -STOP $$\nexec {self.binary} "$@"\n')
        os.chmod(self.wrapper, 0o755)
        self.failures, self.cells = [], 0
        try:
            self._furnish()
        except BaseException:
            self.close(check=False)
            raise

    def start(self):
        self.host.start(self.binary, log_level="info")

    def _furnish(self):
        self.start()
        diskmodel.make_image(self.host, "disk", [(0, 64, 1), (1500, 500, 2)], 1 << 20)
        self.host.create(id=SUBJECT, **RICH)
        self.host.wait_console(SUBJECT, "GUEST UP")
        ask(self.host, SUBJECT, "touch 1", r"TOUCHED (\d+)\n")
        self.sum = checksum(self.host, SUBJECT)
        must(self.post(f"/v1/sandboxes/{SUBJECT}/snapshot", {"template": BASE}) == 201, "no base")
        self.host.destroy(SUBJECT)
        self.bystander = self.host.create(id=BYSTANDER, **RICH)["vmm"]["pid"]
        self.host.wait_console(BYSTANDER, "GUEST UP")

    def close(self, check=True):
        try:
            if not check:
                self.host.cleanup()
                return
            self.remove_subject()
            self.drop(BASE)
            self.host.close()
        finally:
            self.world.close()

    # -- asking

    def call(self, method, path, body=None):
        """The status; LOST when the connection ended instead."""
        self.told = None
        try:
            answer = self.host.api(method, path, body, timeout=10)
        except (OSError, http.client.HTTPException):
            return LOST
        self.told = answer
        return answer.status

    def post(self, path, body=None):
        return self.call("POST", path, body)

    def box(self, name=SUBJECT):
        answer = self.host.api("GET", f"/v1/sandboxes/{name}")
        must(answer.status in (200, 404), answer)
        return answer.json if answer.status == 200 else {"state": GONE, "vmm": None, "exit": None, "memory_restore": None}

    def settled(self, name=SUBJECT, timeout=10):
        """Its record once no operation is under way."""
        def look():
            box = self.box(name)
            return box if box["state"] in (*LIVE, "hibernated", "stopped", "crashed", "failed",
                                           GONE) else None
        return wait_for(look, timeout, f"{name} to settle: {self.box(name)}")

    def templates(self):
        return {t["name"] for t in self.host.api("GET", "/v1/templates").json["templates"]}

    def drop(self, name):
        if name in self.templates():
            status = self.call("DELETE", f"/v1/templates/{name}")
            must(status == 200, "template", name, "cannot be deleted:", self.told)

    def remove_subject(self, name=SUBJECT):
        status = self.call("DELETE", f"/v1/sandboxes/{name}")
        must(status in (200, 404), "destroy says", status, self.told)

    # -- where a cell begins

    def ensure(self, operation):
        """The subject in the state that the operation needs; as it is, if it is good."""
        box = self.box()
        if box["state"] not in (GONE, *LIVE, "hibernated"):
            self.remove_subject()
            box = self.box()
        if operation.start != GONE and box["state"] != GONE and not self.subject_is_good(box):
            self.remove_subject()
            box = self.box()
        if operation.start == GONE:
            if box["state"] != GONE:
                self.remove_subject()
            return
        if box["state"] == GONE:
            status = self.post("/v1/sandboxes", {"id": SUBJECT, "template": BASE,
                                                 "memory_restore": "copy"})
            must(status == 201, "no subject:", self.told)
        self._bring(self.box()["state"], operation)

    def _bring(self, state, operation):
        want = operation.start
        if state == "hibernated" and want != "hibernated":
            must(self.post(f"/v1/sandboxes/{SUBJECT}/wake") == 200, "wake:", self.told)
            state = "running"
        if state == "paused" and want == "running":
            must(self.post(f"/v1/sandboxes/{SUBJECT}/resume") == 200, "resume:", self.told)
        elif state == "running" and want == "paused":
            must(self.post(f"/v1/sandboxes/{SUBJECT}/pause") == 200, "pause:", self.told)
        elif state != want and want == "hibernated":
            must(self.post(f"/v1/sandboxes/{SUBJECT}/hibernate") == 200, "hibernate:", self.told)
        if operation.name == "template-delete" and MADE not in self.templates():
            must(self.post(f"/v1/sandboxes/{SUBJECT}/snapshot", {"template": MADE}) == 201,
                 "snapshot:", self.told)

    @staticmethod
    def subject_is_good(box):
        """With disks, memory of its own, and a vCPU that can be added (and never taken away)."""
        return bool(box["disks"]) and box["memory_restore"] == "copy" and box["vcpus"] == 1

    # -- the cell

    def target(self, operation, role):
        """(pid, depth) of who is struck."""
        if operation.born and role in ("shim", "vmm"):
            return self.host.spawner_pids()[0], 1 if role == "shim" else 2
        if role == "supervisor":
            return self.host.daemon.pid, 0
        if role == "spawner":
            return self.host.spawner_pids()[0], 0
        if role == "shim":
            return self.host.shim_pids(f"admin:{SUBJECT}")[0], 0
        return self.box()["vmm"]["pid"], 0

    def strike(self, operation, role, at=None, how=None):
        """Does the operation under the tracer; gives (tracer, status)."""
        if operation.run is None:
            return self._strike_restart(role, at, how)
        pid, depth = self.target(operation, role)
        with Tracer(pid, depth, at, how) as tracer:
            status = operation.run(self)
            told = self.told if operation.run is not _connect else None
            self._let_end(operation, role)
        self.told = told
        return tracer, status

    def _let_end(self, operation, role):
        """Of what ends by itself the last steps come after the answer."""
        if operation.dies and role in ("shim", "vmm"):
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not self.host.shim_pids(f"admin:{SUBJECT}"), 1)

    def _strike_restart(self, role, at, how):
        self.host.stop(signal.SIGKILL)
        if role == "shim":
            with Tracer(self.host.shim_pids(f"admin:{SUBJECT}")[0], 0, at, how) as tracer:
                self.start()
            return tracer, 200
        self.host.daemon = self.host.spawn(self.wrapper, "info")
        wait_for(lambda: stopped(self.host.daemon.pid), what="a stopped start")
        with Tracer(self.host.daemon.pid, 0 if role == "supervisor" else 1, at, how,
                    from_exec=True) as tracer:
            wait_for(lambda: self.host.ready() or self.host.daemon.poll() is not None, 20,
                     f"a start: {self.host.log_tail()}")
        return tracer, LOST

    def cell(self, operation, role, at, how):
        """True: it was struck; False: it has no such step."""
        try:
            self.ensure(operation)
            before = self.box()
            tracer, status = self.strike(operation, role, at, how)
            self.cells += bool(tracer.hit)
            self.after(operation, role, how if tracer.hit else None, before, tracer, status)
        except (Failed, AssertionError, OSError, http.client.HTTPException, KeyError,
                ValueError, IndexError) as problem:
            step = tracer.hit if "tracer" in locals() else "?"
            self.failures.append(f"{self.name} {operation.name} {role} {how} {at} [{step}]: "
                                 f"{type(problem).__name__}: {problem}")
            self.recover()
            return locals().get("tracer"), True
        return tracer, bool(tracer.hit)

    def recover(self):
        """Whatever a failed cell left is taken away, so that the next ones say what they find."""
        with contextlib.suppress(Exception):
            self.revive()
            self.remove_subject()
            self.remove_subject("y")
            self.drop(MADE)
            self.check_bystander()
            if not self.residue():
                return
        self.renew()

    def renew(self):
        """Everything anew."""
        with contextlib.suppress(Exception):
            self.host.cleanup()
        old = self.failures, self.cells
        vmm = self.host.vmm
        with contextlib.suppress(Exception):
            self.world.close()
        self.__init__(vmm, self.name, self.options, self.binary)
        self.failures, self.cells = old

    # -- what must hold

    def revive(self):
        """Starts again what is not there any more; True if it was."""
        if self.host.daemon.poll() is None and self.host.spawner_pids():
            return False
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.host.daemon.poll() is not None, 10)
        must(self.host.daemon.poll() is not None, "cloisterd goes on without a spawner")
        wait_for(lambda: not self.host.spawner_pids(), 10, "the spawner's end")
        self.start()
        return True

    def after(self, operation, role, how, before, tracer, status):
        for end in tracer.ends:
            must(how != "fail" or not end.startswith("signal") or end == "signal 9",
                 role, "ended by", end)
        if role in ("supervisor", "spawner") and how != "fail" and tracer.hit:
            wait_for(lambda: self.host.daemon.poll() is not None, 10, "cloisterd's end")
        revived = self.revive()
        must(revived or how == "fail" or not tracer.hit or role in ("shim", "vmm"),
             "nobody was killed")
        self.check_bystander()
        box = self.settled()
        self.check_subject(operation, role, how, before, box, status, revived)
        self.check_templates(operation, status)
        self.check_residue()

    def check_bystander(self):
        box = self.box(BYSTANDER)
        must(box["state"] == "running" and box["vmm"]["pid"] == self.bystander and
             alive(self.bystander), "the bystander is", box)
        word = f"w{self.cells}"
        self.host.send(BYSTANDER, word + "\n")
        self.host.wait_console(BYSTANDER, "ECHO " + word)

    def check_subject(self, operation, role, how, before, box, status, revived):
        state, good = box["state"], status is not LOST and 200 <= status < 300 or status == 101
        if not how:
            allowed = {operation.target}
        elif role in ("supervisor", "spawner"):
            allowed = {operation.target} if good and operation.run else set(operation.kept)
            if how == "fail" and not good:
                allowed |= {"failed", "crashed"}
        else:
            allowed = set(operation.dead)
            if how == "fail":
                allowed |= {operation.target} if good else {operation.start, "failed", "crashed"}
            elif good:
                # It was all done before; the death came after.
                allowed |= {operation.target, "crashed"} if operation.dies or operation.born \
                    else set()
        if operation.name.startswith("restart") and role == "shim" and revived:
            allowed |= {GONE}
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.box()["state"] in allowed, 5)
        box = self.box()
        state = box["state"]
        must(state in allowed, "the subject is", state, "not", sorted(allowed), "answer", status,
             self.told, box["exit"])
        if state in ("crashed", "failed"):
            self.check_cause(operation, role, how, box, status)
        if state in LIVE and before["state"] in LIVE:
            must(box["vmm"]["pid"] == before["vmm"]["pid"], "another VMM")
        self.check_alive(box)

    def check_cause(self, operation, role, how, box, status):
        cause = box["exit"] and box["exit"]["cause"]
        if how == "fail" or operation.name == "restart":
            must(cause, "no cause", box)
            return
        want = {CAUSE.get(role)}
        if role == "vmm" and operation.name in ("resume", "snapshot", "hibernate"):
            want.add("vmm-error")  # the answer that did not come was seen first
        if operation.born and status != 201:
            want.add("start-failed")
        must(cause in want, "its cause is", cause, "not", want, box["exit"])

    def check_alive(self, box):
        """It is whole: its memory, and what it reads of its disk."""
        if box["state"] == "paused":
            must(self.post(f"/v1/sandboxes/{SUBJECT}/resume") == 200, "resume:", self.told)
        if box["state"] == "hibernated":
            must(self.post(f"/v1/sandboxes/{SUBJECT}/wake") == 200, "wake:", self.told)
        if box["state"] not in (*LIVE, "hibernated"):
            return
        if box["disks"]:
            if box["memory_restore"]:
                found = checksum(self.host, SUBJECT)
                must(found == self.sum, "memory is", found, "not", self.sum)
            self.host.send(SUBJECT, "dread 0 0 8\n")
        word = f"v{self.cells}"
        self.host.send(SUBJECT, word + "\n")
        self.host.wait_console(SUBJECT, "ECHO " + word)

    def check_templates(self, operation, status):
        listed = self.templates()
        must(listed <= {BASE, MADE} and BASE in listed, "templates:", listed)
        if operation.name == "snapshot":
            must(status != 201 or MADE in listed, "201, and there is no template")
        if operation.name == "template-delete":
            must(status != 200 or MADE not in listed, "200, and the template is there")
        if MADE in listed:
            status = self.post("/v1/sandboxes", {"id": "y", "template": MADE})
            must(status == 201, "its template is not whole:", self.told)
            must(checksum(self.host, "y") == self.sum, "its template's memory is another")
            self.remove_subject("y")
            if operation.name != "template-delete" or status == 200:
                self.drop(MADE)

    def residue(self):
        """What is there but for the bystander, the base and the subject as they should be."""
        box = self.box()
        keys = [f"admin:{BYSTANDER}"]
        if box["state"] in (*LIVE, "hibernated"):
            keys.append(f"admin:{SUBJECT}")
        state = [f"{self.host.state_dir}/templates/admin:{BASE}"]
        state += [f"{self.host.state_dir}/sandboxes/{k}" for k in keys]
        state += [f"{self.host.run_dir}/shims/{k}.sock" for k in keys]
        if MADE in self.templates():
            state.append(f"{self.host.state_dir}/templates/admin:{MADE}")
        shims = [p for k in keys for p in self.host.shim_pids(k)]
        vmms = [b["vmm"]["pid"] for b in (box, self.box(BYSTANDER)) if b["vmm"]]
        fine = {f"VMM process {p}" for p in vmms} | {f"shim process {p}" for p in shims}
        left = []
        for line in self.host.residue():
            if line in fine or line in state or line.startswith("cgroup ") and \
                    any(line.endswith("/" + k) for k in keys):
                continue
            left.append(line)
        return left + self.half_made(keys) + self.net_residue(len(vmms))

    def half_made(self, keys):
        """Staging directories of sandboxes that go on."""
        found = []
        for key in keys:
            path = f"{self.host.state_dir}/sandboxes/{key}"
            # A map clone has a place where the VMM may write memory.
            fine = ("set", "disks", "scratch") if self.box()["memory_restore"] == "map" \
                else ("set", "disks")
            with contextlib.suppress(FileNotFoundError):
                found += [f"{path}/{n}" for n in os.listdir(path) if n not in fine]
        return found

    def net_residue(self, expected):
        links = self.world.links()
        return links if len(links) > expected else []

    def check_residue(self):
        box = self.box()
        if box["state"] in ("crashed", "failed", "stopped"):
            self.remove_subject()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.residue(), 5)
        left = self.residue()
        must(not left, "left behind:", left)


def stopped(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"
