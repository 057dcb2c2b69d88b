# SPDX-License-Identifier: Apache-2.0
"""A real Linux in the jail: boots, ticks, stands still while paused, goes on, is destroyed.

One boot for the whole file: this kind of host takes seconds for it.
"""
import lzma
import os

import pytest

from conftest import need
from harness import LINUX_GUEST, wait_for


def ticks(host):
    return [line for line in host.console("linux").splitlines() if line.startswith("TICK")]


@pytest.mark.ch
def test_linux_boots_pauses_and_resumes(host):
    need("linux")
    unpacked = os.path.join(host.base, "vmlinux")
    with lzma.open(os.path.join(LINUX_GUEST, "vmlinux.xz")) as packed, open(unpacked, "wb") as out:
        out.write(packed.read())
    host.add_image("kernels", "linux", unpacked)
    host.add_image("initramfs", "linux", os.path.join(LINUX_GUEST, "initrd.cpio"))
    box = host.create(id="linux", kernel="linux", initramfs="linux", memory_mib=64,
                      cmdline="console=ttyS0 quiet tick=100")
    assert box["initramfs"] == "linux"
    host.wait_console("linux", "GUEST UP", timeout=90)
    wait_for(lambda: len(ticks(host)) >= 3, 60, "three ticks")
    # Its drivers took devices after the start: their threads were looked at as well.
    said = wait_for(lambda: (lambda c: c if c["after"] == "device" else None)(
        host.api("GET", "/v1/sandboxes/linux/debug").json["confinement"]), 10, "a look at devices")
    assert said["as_asked"] is True and said["checks"] >= 2
    assert "balloon0" in {t["name"] for t in said["threads"]}, said["threads"]
    host.act("linux", "pause")
    stopped = ticks(host)
    assert ticks(host) == stopped
    host.act("linux", "resume")
    wait_for(lambda: len(ticks(host)) > len(stopped), 60, "another tick")
    # The guest has no power button: the grace runs out, CH is shut down cleanly, nothing is left.
    last = host.destroy("linux", query="grace_s=1")
    assert last["exit"]["cause"] == "destroyed"
