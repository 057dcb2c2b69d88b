# SPDX-License-Identifier: Apache-2.0
"""make soak: random operations over eight sandboxes, with processes of all kinds killed in between.

Each guest writes a pattern into its memory; its checksum must be right in every clone and after
every wake. So must be each block of its disk, if it has one. Some have a network, of a pool that is
too small for all: no address is two sandboxes', and the stand-in's guests answer at theirs, from a
world of the soak's own. state_dir is on ext4, xfs and btrfs in turn.

A model knows what each answer may be; at the end, and whenever everything is destroyed, nothing may
be left. The seed is printed, so that a run can be repeated.
"""
import argparse
import ipaddress
import os
import random
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import diskmodel  # noqa: E402
import filesystems  # noqa: E402
import harness  # noqa: E402
import networld  # noqa: E402
from harness import wait_for  # noqa: E402

DISK_MIB = 2
POOL, PORTS, ADDRESSES = ipaddress.ip_network("100.96.0.0/29"), range(20000, 20004), 3
NAMES = [f"s{i}" for i in range(8)]


class Soak:
    def __init__(self, host, rng):
        self.host, self.rng = host, rng
        self.state = {}      # name -> running, paused, hibernated or crashed
        self.sums = {}       # name -> the checksum of its guest's memory
        self.templates = {}  # name -> (the checksum, the model of the disk) that a clone must have,
                             #         and whether it has a network
        self.disks = {}      # name -> the model of its disk, or None
        self.addresses = {}  # name -> its address outside, or None
        self.done = {}
        self.image = diskmodel.make_image(host, "base", [(0, 64, 1), (1500, 500, 2)], 1 << 20)

    def ask(self, name, word, pattern):
        before = len(self.host.console(name))
        self.host.send(name, word + "\n")
        return wait_for(lambda: re.search(pattern, self.host.console(name)[before:]), 20,
                        f"{pattern} of {name}").group(1)

    def check_sum(self, name):
        if self.state.get(name) == "running":
            found = self.ask(name, "sum", r"SUM ([0-9a-f]+)\n")
            assert found == self.sums[name], (name, found, self.sums[name])
        if name in self.state and self.disks[name]:
            diskmodel.check_file(self.host, name, 0, self.disks[name])
            if self.state[name] == "running":
                sector, count, _ = self._range()
                diskmodel.check_read(self.host, name, 0, self.disks[name], [(sector, count)])

    def _range(self):
        """(sector, count, seed)"""
        count = self.rng.choice([1, 8, 100])
        return self.rng.randrange(DISK_MIB * 2048 - count), count, self.rng.randrange(1000)

    def write(self, name):
        if self.state.get(name) == "running" and self.disks[name]:
            diskmodel.write_both(self.host, name, 0, self.disks[name], *self._range())
            if self.rng.randrange(2):
                diskmodel.flush(self.host, name, 0)

    def may_answer(self, name, networked):
        """The statuses that a create may have; a crashed sandbox may have lost its address."""
        if name in self.state:
            return [409]
        having = [n for n in self.state if self.addresses[n]]
        if not networked or len(having) < ADDRESSES:
            return [201]
        alive = [n for n in having if self.state[n] != "crashed"]
        return [429] if len(alive) >= ADDRESSES else [201, 429]

    def note_created(self, name, answer):
        """The answer may also be that there is no address left."""
        if answer.status != 201:
            what = {409: "taken", 429: "no address"}[answer.status]
            self.done[what] = self.done.get(what, 0) + 1
            return False
        network = answer.json["network"]
        address = network and network["address"]
        others = [a for n, a in self.addresses.items()
                  if self.state.get(n) not in (None, "crashed")]
        assert not address or address not in others, (name, address, self.addresses)
        self.state[name] = "running"
        self.addresses[name] = address
        return True

    def reach(self, name):
        """Its port 80, from outside: there while it runs, and not when nothing of it does."""
        address, state = self.addresses.get(name), self.state.get(name)
        if not address or state == "paused" or self.host.name != "standin":
            return
        answer = self.host.world.outside.get(address, 80, timeout=5 if state == "running" else 0.2)
        # An address that was given back may be another's by now.
        if state == "running" or address not in [self.addresses[n] for n in self.state
                                                 if self.state[n] == "running"]:
            assert bool(answer) == (state == "running"), (name, state, answer)

    def create(self, name):
        network = None if self.rng.randrange(5) == 0 else {
            "egress": self.rng.choice(["none", "internet"]), "ports": [{"guest": 80}]}
        disks = self.rng.choice([[], [{"image": "base", "size_mib": DISK_MIB},
                                      {"image": "base", "readonly": True}]])
        answer = self.host.api("POST", "/v1/sandboxes", {
            "id": name, "kernel": "tiny", "memory_mib": self.rng.choice([16, 32, 64]),
            "vcpus": self.rng.choice([1, 2]), "cmdline": f"tick={self.rng.choice([0, 20, 100])}",
            "disks": disks, "network": network})
        assert answer.status in self.may_answer(name, network), answer
        if self.note_created(name, answer):
            self.disks[name] = diskmodel.Model(self.image.data, DISK_MIB) if disks else None
            self.host.wait_console(name, "GUEST UP")
            self.ask(name, f"touch {self.rng.choice([1, 2, 4])}", r"TOUCHED (\d+)\n")
            self.sums[name] = self.ask(name, "sum", r"SUM ([0-9a-f]+)\n")

    def clone(self, name):
        if not self.templates:
            return
        template = self.rng.choice(sorted(self.templates))
        answer = self.host.api("POST", "/v1/sandboxes", {"id": name, "template": template})
        checksum, disk, networked = self.templates[template]
        assert answer.status in self.may_answer(name, networked), answer
        if self.note_created(name, answer):
            assert bool(self.addresses[name]) == networked
            self.sums[name] = checksum
            self.disks[name] = disk and disk.copy()
            self.check_sum(name)

    def snapshot(self, name):
        template = f"t{self.rng.randrange(4)}"
        answer = self.host.api("POST", f"/v1/sandboxes/{name}/snapshot", {"template": template})
        state = self.state.get(name)
        good = state in ("running", "paused") and template not in self.templates
        assert answer.status == (404 if not state else 201 if good else 409), answer
        if good:
            disk = self.disks[name]
            self.templates[template] = (self.sums[name], disk and disk.copy(),
                                        bool(self.addresses[name]))

    def drop_template(self, _):
        template = f"t{self.rng.randrange(4)}"
        answer = self.host.api("DELETE", f"/v1/templates/{template}")
        assert answer.status == (200 if self.templates.pop(template, None) else 404), answer

    def hibernate(self, name):
        answer = self.host.api("POST", f"/v1/sandboxes/{name}/hibernate")
        state = self.state.get(name)
        good = state in ("running", "paused")
        assert answer.status == (404 if not state else 200 if good else 409), answer
        if good:
            assert not self.host.shim_pids(f"admin:{name}")
            self.state[name] = "hibernated"

    def wake(self, name):
        self._act(name, "wake", "hibernated", "running")
        if self.state.get(name) == "running" and self.addresses[name]:
            assert self.host.get(name)["network"]["address"] == self.addresses[name]
        self.check_sum(name)

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
        self.host.stop(self.rng.choice([signal.SIGTERM, signal.SIGKILL]))
        self.host.start()
        seen = {b["id"]: b["state"] for b in self.host.list()}
        assert seen == self.state, (seen, self.state)

    def run(self, operations):
        weights = {"create": 25, "clone": 15, "pause": 10, "resume": 10, "talk": 5, "destroy": 12,
                   "snapshot": 8, "drop_template": 4, "hibernate": 10, "wake": 12, "check_sum": 8,
                   "write": 25, "reach": 12, "kill_vmm": 6, "kill_shim": 5, "restart": 2}
        for _ in range(operations):
            what = self.rng.choices(list(weights), list(weights.values()))[0]
            getattr(self, what)(self.rng.choice(NAMES))
            self.done[what] = self.done.get(what, 0) + 1
        for name in list(self.state):
            self.destroy(name)
        for template in list(self.templates):
            assert self.host.api("DELETE", f"/v1/templates/{template}").status == 200


def soak_on(vmm, name, kind, arguments):
    config = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}" \
        if vmm == harness.REAL else ""
    world = networld.World(pool=POOL)
    host = networld.NetHost(vmm, name, world, config=world.config(ports=PORTS), tenants=False,
                            vmm_config=config,
                            state_root=filesystems.mounts().get(kind) if kind else None)
    start = time.monotonic()
    try:
        soak = Soak(host.start(log_level="info"), random.Random(arguments.seed))
        soak.run(arguments.operations)
        left = wait_for(lambda: not host.residue(), 5) and host.residue()
        host.close()
    except BaseException:
        print(f"seed {arguments.seed}; last of the log:\n{host.log_tail()}")
        host.cleanup()
        raise
    finally:
        world.close()
    print(f"{name} on {kind or 'what /var/tmp is on'}: {arguments.operations} operations in "
          f"{time.monotonic() - start:.1f} s, seed {arguments.seed}, left: {left or 'nothing'}; "
          f"{soak.done}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=500, help="on each file system")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    vmms = [(harness.STANDIN, "standin")]
    if harness.REAL and harness.have_kvm() and not harness.SANITIZED:
        vmms.append((harness.REAL, "cloud-hypervisor"))
    kinds = [k for k in filesystems.KINDS if not filesystems.why_not(k)]
    for kind in set(filesystems.KINDS) - set(kinds):
        print("left out:", filesystems.why_not(kind))
    try:
        for vmm, name in vmms:
            for kind in kinds or [None]:
                soak_on(vmm, name, kind, arguments)
    finally:
        filesystems.close()


if __name__ == "__main__":
    main()
