# SPDX-License-Identifier: Apache-2.0
"""tests/faults/step.c, which counts the steps of a process and strikes at one of them."""
import os
import signal
import subprocess

import harness

STEP = os.path.join(harness.TOP, "build", "tests", "faults", "step")


class Tracer:
    """
    Watches from its making on until the end of the `with`. how: None (counts only), "before" or
    "after" (kills it there), "fail" (the call fails). depth 1 is a child that pid makes, 2 a child
    of that.
    """

    def __init__(self, pid, depth=0, at=None, how=None, from_exec=False):
        command = [STEP, "--depth", str(depth)]
        command += ["--from-exec"] if from_exec else []
        command += ["--fallible"] if how in ("fail", "fallible") else []
        if at:
            command += ["--at", str(at)]
            command += ["--fail"] if how == "fail" else ["--kill", how]
        self.process = subprocess.Popen([*command, str(pid)], stdout=subprocess.PIPE, text=True)
        self.steps, self.hit, self.ends, self.count = [], None, [], 0
        line = self.process.stdout.readline()
        assert line == "ready\n", f"{command} {pid} says {line!r}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=60)
        for line in output.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("step", "hit"):
                self.steps.append(rest.partition(" ")[2])
            if word == "hit":
                self.hit = rest
            elif word == "end":
                self.ends.append(rest)
            elif word == "count":
                self.count = int(rest)
