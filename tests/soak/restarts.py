# SPDX-License-Identifier: Apache-2.0
"""Restarts of cloisterd under load: no VM is lost.

Clients create, destroy, pause, resume, snapshot, hibernate and wake on the stand-in while cloisterd is
ended and started again, by SIGTERM and SIGKILL in turn, now and then by the death of its spawner. A
client whose answer was lost asks what is there. At the end each sandbox whose create was answered 201,
or that was seen to run, and that nobody destroyed, is there with the VMM that it had, and nothing else is.
"""
import argparse
import http.client
import os
import random
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import harness  # noqa: E402
from harness import alive, wait_for  # noqa: E402

LOST = (OSError, http.client.HTTPException)
KEPT = 12  # sandboxes that nothing is done to


class Client(threading.Thread):
    """Has a few ids of its own, so that it knows what must be there."""

    def __init__(self, host, name, seed, stop):
        super().__init__(daemon=True)
        self.host, self.name, self.stop = host, name, stop
        self.rng = random.Random(seed)
        self.pids = {f"{name}{i}": None for i in range(4)}  # of its VMM; None: none is there
        self.done, self.lost, self.error = {}, 0, None

    def ask(self, method, path, body=None):
        """The answer, or None: it was lost with its supervisor, or there is none just now."""
        try:
            return self.host.api(method, path, body, timeout=60)
        except LOST:
            self.lost += 1
            return None

    def settled(self, box):
        """Its record in a state that stays, or None: it is not there."""
        def look():
            answer = self.ask("GET", f"/v1/sandboxes/{box}")
            if answer is None:
                time.sleep(0.005)
                return None
            if answer.status == 404:
                return {}
            assert answer.status == 200, answer
            assert answer.json["state"] not in ("crashed", "stopped", "failed"), answer.json
            return answer.json if answer.json["state"] in ("running", "paused",
                                                          "hibernated") else None
        def found():
            seen.append(look())
            return seen[-1] is not None
        seen = []
        wait_for(found, 60, f"a state of {box} that stays")
        return seen[-1]

    def step(self):
        box = self.rng.choice(list(self.pids))
        before = self.pids[box]
        if before is None:
            what = "create"
            answer = self.ask("POST", "/v1/sandboxes", {
                "id": box, "kernel": "tiny", "memory_mib": 16, "cmdline": "tick=0"})
        else:
            what = self.rng.choice(["pause", "resume", "snapshot", "hibernate", "wake", "destroy"])
            if what == "destroy":
                answer = self.ask("DELETE", f"/v1/sandboxes/{box}")
            elif what == "snapshot":
                answer = self.ask("POST", f"/v1/sandboxes/{box}/snapshot", {"template": box})
            else:
                answer = self.ask("POST", f"/v1/sandboxes/{box}/{what}")
        # One that ends in its own time says of what is under way that it goes on: look later.
        if answer is not None and answer.status == 503 and b"goes on without it" in answer.body:
            self.lost += 1
            answer = None
        # And it takes nothing new meanwhile.
        refused = answer is not None and answer.status == 503 and b"is stopping" in answer.body
        assert answer is None or refused or answer.status in (200, 201, 409), (what, answer)
        self.done[what] = self.done.get(what, 0) + 1
        self.check(box, what, answer, before)
        if what == "snapshot":
            gone = None
            while gone is None or gone.status in (409, 503):
                gone = self.ask("DELETE", f"/v1/templates/{box}")
            assert gone.status in (200, 404), gone

    def check(self, box, what, answer, before):
        try:
            now = self.settled(box)
        except AssertionError as error:
            raise AssertionError(f"{what} of {box}, answered {answer}: {error}") from None
        if answer is not None and answer.status == 201 and what == "create":
            assert now and now["vmm"]["pid"] == answer.json["vmm"]["pid"], (answer, now)
        refused = answer is not None and answer.status == 503
        if before is not None and (what != "destroy" or refused):
            assert now, f"{box} is lost: {what}, {answer}"
        if refused and what == "create":
            assert not now, f"{box} was refused, and is there: {now}"
        if answer is not None and what == "destroy" and not refused:
            assert not now, (answer, now)
        same = what in ("pause", "resume", "snapshot") and before
        assert not same or now["vmm"]["pid"] == before, (what, answer, before, now)
        # Asked to sleep, one has no VMM: any that it gets is a new one.
        self.pids[box] = None if not now else now["vmm"]["pid"] if now["vmm"] else 0

    def run(self):
        try:
            while not self.stop.is_set():
                self.step()
        except BaseException as error:  # told by main()
            self.error = error
            self.stop.set()


def end(host, turn):
    if turn % 10 == 9:
        os.kill(host.spawner_pids()[0], signal.SIGKILL)
        host.daemon.wait(10)
        return
    host.stop(signal.SIGKILL if turn % 2 else signal.SIGTERM)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    rng, stop = random.Random(arguments.seed), threading.Event()
    host = harness.Host(harness.STANDIN, tenants=False)
    starts = []
    begin = time.monotonic()
    try:
        host.start(log_level="info")
        kept = {f"kept{i}": host.create(id=f"kept{i}", memory_mib=16)["vmm"]["pid"]
                for i in range(KEPT)}
        clients = [Client(host, f"c{i}x", arguments.seed + i, stop)
                   for i in range(arguments.clients)]
        for client in clients:
            client.start()
        for turn in range(arguments.count):
            if stop.is_set():
                break
            # At any moment of what is going on.
            time.sleep(rng.random() * 0.1)
            end(host, turn)
            started = time.monotonic()
            host.start(log_level="info")
            starts.append(time.monotonic() - started)
            assert all(alive(pid) for pid in kept.values()), f"a VM was lost at restart {turn}"
        stop.set()
        for client in clients:
            client.join(120)
            if client.error or client.is_alive():
                raise client.error or AssertionError("a client hangs")
        want = {**kept, **{b: p for c in clients for b, p in c.pids.items() if p is not None}}
        seen = {b["id"]: b["vmm"]["pid"] if b["vmm"] else 0 for b in host.list()}
        assert seen == want, (seen, want)
        assert all(alive(pid) for pid in want.values() if pid)
        found = host.api("GET", "/v1/check").json["findings"]
        assert found == [], found
        for box in list(seen):
            host.destroy(box)
        assert not (left := wait_for(lambda: not host.residue(), 10) and host.residue()), left
        host.stop()
    except BaseException:
        log = tempfile.NamedTemporaryFile("w", prefix="restarts-", suffix=".log", delete=False)
        with log:
            log.write(host.log())
        print(f"seed {arguments.seed}; the log is {log.name}")
        raise
    finally:
        stop.set()
        host.cleanup()
    done = {}
    for client in clients:
        for what, n in client.done.items():
            done[what] = done.get(what, 0) + n
    starts.sort()
    print(f"{arguments.count} restarts in {time.monotonic() - begin:.0f} s, no VM lost; serving again "
          f"after {starts[len(starts) // 2] * 1000:.0f} ms (median), {starts[-1] * 1000:.0f} ms "
          f"(longest); {done}, {sum(c.lost for c in clients)} answers lost; seed {arguments.seed}")


if __name__ == "__main__":
    main()
