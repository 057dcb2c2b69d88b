# SPDX-License-Identifier: Apache-2.0
"""make soak: random operations over eight sandboxes, with VMMs, shims and cloisterd killed in between.

A model knows what each answer may be; at the end, and whenever everything is destroyed, nothing may
be left. The seed is printed, so that a run can be repeated.
"""
import argparse
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402

NAMES = [f"s{i}" for i in range(8)]


class Soak:
    def __init__(self, host, rng):
        self.host, self.rng = host, rng
        self.state = {}  # name -> running, paused or crashed
        self.done = {}

    def create(self, name):
        answer = self.host.api("POST", "/v1/sandboxes", {
            "id": name, "kernel": "tiny", "memory_mib": self.rng.choice([16, 32, 64]),
            "vcpus": self.rng.choice([1, 2]), "cmdline": f"tick={self.rng.choice([0, 20, 100])}"})
        assert answer.status == (409 if name in self.state else 201), answer
        self.state.setdefault(name, "running")

    def pause(self, name):
        self._act(name, "pause", "running", "paused")

    def resume(self, name):
        self._act(name, "resume", "paused", "running")

    def _act(self, name, action, needs, then):
        answer = self.host.api("POST", f"/v1/sandboxes/{name}/{action}")
        state = self.state.get(name)
        assert answer.status == (404 if not state else 200 if state == needs else 409), answer
        if state == needs:
            self.state[name] = then

    def talk(self, name):
        if self.state.get(name) == "running":
            word = f"w{self.rng.randrange(10**6)}"
            self.host.send(name, word + "\n")
            self.host.wait_console(name, "ECHO " + word)

    def destroy(self, name):
        grace = self.rng.choice(["", "", "?grace_s=1"])
        answer = self.host.api("DELETE", f"/v1/sandboxes/{name}{grace}")
        assert answer.status == (200 if self.state.pop(name, None) else 404), answer
        assert not self.host.shim_pids(f"admin:{name}")

    def kill_vmm(self, name):
        if self.state.get(name) in ("running", "paused"):
            os.kill(self.host.get(name)["vmm"]["pid"], signal.SIGKILL)
            self._crashed(name, "vmm-killed")

    def kill_shim(self, name):
        if self.state.get(name) in ("running", "paused"):
            for pid in self.host.shim_pids(f"admin:{name}"):
                os.kill(pid, signal.SIGKILL)
            self._crashed(name, "shim-lost")

    def _crashed(self, name, cause):
        box = self.host.wait_state(name, "crashed")
        assert box["exit"]["cause"] == cause, box
        self.state[name] = "crashed"

    def restart(self, _):
        # The dead have no shim that could be adopted: a supervisor's memory of them goes with it.
        for name in [n for n, s in self.state.items() if s == "crashed"]:
            self.destroy(name)
        self.host.stop(self.rng.choice([signal.SIGTERM, signal.SIGKILL]))
        self.host.start()
        seen = {b["id"]: b["state"] for b in self.host.list()}
        assert seen == self.state, (seen, self.state)

    def run(self, operations):
        weights = {"create": 30, "pause": 15, "resume": 15, "talk": 10, "destroy": 15,
                   "kill_vmm": 6, "kill_shim": 5, "restart": 2}
        for _ in range(operations):
            what = self.rng.choices(list(weights), list(weights.values()))[0]
            getattr(self, what)(self.rng.choice(NAMES))
            self.done[what] = self.done.get(what, 0) + 1
        for name in list(self.state):
            self.destroy(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    vmms = [(harness.STANDIN, "standin")]
    if harness.REAL and harness.have_kvm() and not harness.SANITIZED:
        vmms.append((harness.REAL, "cloud-hypervisor"))
    for vmm, name in vmms:
        host = harness.Host(vmm, name, tenants=False)
        start = time.monotonic()
        soak = Soak(host.start(log_level="info"), random.Random(arguments.seed))
        try:
            soak.run(arguments.operations)
            left = wait_for(lambda: not host.residue(), 5) and host.residue()
            host.close()
        except BaseException:
            print(f"seed {arguments.seed}; last of the log:\n{host.log_tail()}")
            host.cleanup()
            raise
        print(f"{name}: {arguments.operations} operations in {time.monotonic() - start:.1f} s, "
              f"seed {arguments.seed}, left: {left or 'nothing'}; {soak.done}", flush=True)


if __name__ == "__main__":
    main()
