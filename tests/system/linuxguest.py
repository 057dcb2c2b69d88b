# SPDX-License-Identifier: Apache-2.0
"""The Linux guest of the tests of networks: CLOISTER_LINUX_GUEST's server beside our own agent.

It is booted once, which takes about 10 s, and restored for each case from its template.
"""
import contextlib
import lzma
import os
import re
import shutil
import stat

import harness
from diskmodel import path_of
from harness import LINUX_GUEST, wait_for
from networld import GATEWAY, GUEST, NetHost
from test_linux_disk import cpio

AGENT = os.path.join(harness.TOP, "build", "tests", "guest", "linux_agent")
CMDLINE = f"console=ttyS0 quiet tick=500 guest_ip={GUEST}/30 guest_gw={GATEWAY}"
SECTOR = 512


def read_cpio(path, wanted):
    """A member's content."""
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while data[at:at + 6] == b"070701":
        fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        name = data[at + 110:at + 109 + name_size].decode()
        start = (at + 110 + name_size + 3) & ~3
        if name.lstrip("./") == wanted:
            return data[start:start + size]
        at = (start + size + 3) & ~3
    raise AssertionError(f"{path} has no {wanted}")


class LinuxHost(NetHost):
    """Makes the guest's template when it is started for the first time."""

    def __init__(self, world, **options):
        preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}"
        super().__init__(harness.REAL, "ch", world, vmm_config=preload, **options)

    def make_template(self):
        self._add_guest()
        self.create(id="src", kernel="linux", initramfs="linux", memory_mib=64, vsock=True,
                    cmdline=CMDLINE, network={"egress": "internet", "ports": [{"guest": 80}]},
                    disks=[{"image": "linux"}],
                    wait_for={"http": {"port": 80, "path": "/health"}, "timeout_s": 90})
        self.wait_console("src", "AGENT UP")
        self.wait_console("src", "NET UP")
        assert self.world.host.get(self.address("src"), 80, "/dirty/1")[0] == 200
        self.sum = self.http("src", "/sum")
        answer = self.api("POST", "/v1/sandboxes/src/snapshot", {"template": "linux"})
        assert answer.status == 201, answer
        return self

    def _add_guest(self):
        unpacked = os.path.join(self.base, "vmlinux")
        with lzma.open(os.path.join(LINUX_GUEST, "vmlinux.xz")) as packed, \
                open(unpacked, "wb") as out:
            shutil.copyfileobj(packed, out)
        self.add_image("kernels", "linux", unpacked)
        archive = os.path.join(self.base, "initramfs")
        serve = read_cpio(os.path.join(LINUX_GUEST, "initrd.cpio"), "init")
        with open(AGENT, "rb") as agent, open(archive, "wb") as out:
            out.write(cpio([("dev", stat.S_IFDIR | 0o755, 0, b""),
                            ("dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1), b""),
                            ("proc", stat.S_IFDIR | 0o755, 0, b""),
                            ("init", stat.S_IFREG | 0o755, 0, agent.read()),
                            ("serve", stat.S_IFREG | 0o755, 0, serve)]))
        self.add_image("initramfs", "linux", archive)
        image = os.path.join(self.base, "disk.img")
        with open(image, "wb") as f:
            f.write(bytes(1 << 20))
        self.add_image("disks", "linux", image)

    def clone(self, box, expect=201, **spec):
        answer = self.api("POST", "/v1/sandboxes", {"id": box, "template": "linux", **spec})
        assert answer.status == expect, answer
        return answer.json

    def address(self, box):
        return self.get(box)["network"]["address"]

    def http(self, box, path):
        """What the guest answers to a GET from the host, at its forwarded port 80."""
        status, body = self.world.host.get(self.address(box), 80, path)
        assert status == 200, body
        return body

    def tell(self, box, line, pattern, timeout=15):
        """Types a command, waits for what the agent answers, and gives all it said from there."""
        before = len(self.console(box))
        self.send(box, line + "\n")
        wait_for(lambda: re.search(pattern, self.console(box)[before:], re.M), timeout,
                 f"{pattern} after {line[:60]}")
        return self.console(box)[before:]

    def sector(self, box, number):
        """Of the sandbox's own disk, as the host has it."""
        with open(path_of(self, box, 0), "rb") as f:
            f.seek(number * SECTOR)
            return f.read(SECTOR)

    def clear_clones(self):
        """Destroys all but the source of the template; gives what is left of their networks."""
        for box in self.list():
            if box["id"] != "src":
                self.destroy(box["id"])
        with contextlib.suppress(AssertionError):
            wait_for(lambda: len(self.world.links()) == 1, 5)
        self.world.clear()
        return self.world.links()[1:]

    def close(self):
        if self.daemon and self.daemon.poll() is None:
            self.api("DELETE", "/v1/templates/linux")
        super().close()
