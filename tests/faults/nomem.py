# SPDX-License-Identifier: Apache-2.0
"""A matrix whose step is an allocation (nomem.c): the N-th one of a role has no memory."""
import contextlib
import os
import struct
import subprocess

import harness
import matrix
from tracer import Tracer

DIRECTORY = os.path.join(harness.TOP, "build", "tests", "faults", "nomem")
ROLES = ("supervisor", "spawner", "shim")
PROGRAM = {"supervisor": "cloisterd", "spawner": "cloister-shim", "shim": "cloister-shim"}


def symbols(program):
    output = subprocess.run(["nm", os.path.join(DIRECTORY, program)], stdout=subprocess.PIPE,
                            text=True, check=True).stdout
    return {name: int(address, 16) for address, _, name in
            (line.split() for line in output.splitlines() if " nomem_" in line)}


class Series(matrix.Series):
    def __init__(self, vmm, name, options="", binary=None):
        self.symbols = {p: symbols(p) for p in set(PROGRAM.values())}
        super().__init__(vmm, name, options, binary or os.path.join(DIRECTORY, "cloisterd"))

    @contextlib.contextmanager
    def variable(self, pid, role, name, mode="r+b"):
        """The process's own, through /proc/PID/mem."""
        program = PROGRAM[role]
        with open(f"/proc/{pid}/maps") as f:
            base = next(int(line.split("-")[0], 16) for line in f if f"/{program}" in line)
        with open(f"/proc/{pid}/mem", mode, buffering=0) as memory:
            memory.seek(base + self.symbols[program][name])
            yield memory

    def arm(self, pid, role, at):
        for name, value in (("nomem_count", 0), ("nomem_at", at)):
            with self.variable(pid, role, name) as memory:
                memory.write(struct.pack("l", value))

    def arm_next(self, spawner, at):
        """The shims that it starts from now on."""
        with self.variable(spawner, "spawner", "nomem_env") as memory:
            memory.write(f"LSAN_OPTIONS={at}\0".encode())

    def reached(self, pid, role, at):
        """One that is not there any more has got further than it could."""
        try:
            with self.variable(pid, role, "nomem_count", "rb") as memory:
                return struct.unpack("l", memory.read(8))[0] >= at
        except (OSError, StopIteration):
            return True

    def strike(self, operation, role, at=None, how=None):
        if not at:
            return super().strike(operation, role, None, None)
        pid, depth = self.target(operation, role)
        if depth:
            self.arm_next(pid, at)
        else:
            self.arm(pid, role, at)
        with Tracer(pid, depth) as tracer:
            status = operation.run(self)
            told = self.told
            self._let_end(operation, role)
        if depth:
            with contextlib.suppress(OSError, StopIteration):
                self.arm_next(pid, 0)
            pid = next(iter(self.host.shim_pids(f"admin:{matrix.SUBJECT}")), 0)
        if self.reached(pid, role, at):
            tracer.hit = f"allocation {at}"
        with contextlib.suppress(OSError, StopIteration):
            self.arm(pid, role, 0)
        self.told = told
        return tracer, status
