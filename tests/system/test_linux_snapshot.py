# SPDX-License-Identifier: Apache-2.0
"""The real Linux through the life of a set: template, clones in each mode, hibernate and wake.

It is booted once; its ticks go on from where they were in every guest that comes of it.
"""
import lzma
import os
import re

import pytest

from conftest import need
from harness import LINUX_GUEST, wait_for
from test_snapshot import host, restore, snapshot  # noqa: F401 (host is the fixture with the preload)


def last_tick(host, box):
    found = re.findall(r"^TICK (\d+)", host.console(box), re.M)
    return int(found[-1]) if found else 0


def ticks_on(host, box, above):
    return wait_for(lambda: last_tick(host, box) > above and last_tick(host, box), 60,
                    f"{box} ticks beyond {above}")


@pytest.mark.ch
def test_linux_goes_on_from_its_own_count(host):  # noqa: F811
    need("linux")
    unpacked = os.path.join(host.base, "vmlinux")
    with lzma.open(os.path.join(LINUX_GUEST, "vmlinux.xz")) as packed, open(unpacked, "wb") as out:
        out.write(packed.read())
    host.add_image("kernels", "linux", unpacked)
    host.add_image("initramfs", "linux", os.path.join(LINUX_GUEST, "initrd.cpio"))
    host.create(id="src", kernel="linux", initramfs="linux", memory_mib=64,
                cmdline="console=ttyS0 quiet tick=100")
    host.wait_console("src", "GUEST UP", timeout=90)
    ticks_on(host, "src", 3)
    made = snapshot(host, "src", "linux")
    assert 0 < made["allocated_bytes"] < made["apparent_bytes"]
    taken = last_tick(host, "src")
    for mode in ("map", "copy"):
        restore(host, mode, "linux", mode)
        first = ticks_on(host, mode, 0)
        assert abs(first - taken) < 20, (first, taken)
        ticks_on(host, mode, first)
    # The copy is hibernated and goes on; the map clone's memory is private, CH writes it itself.
    for box in ("copy", "map"):
        host.act(box, "hibernate")
        host.act(box, "wake")
        ticks_on(host, box, 0)
    assert host.api("DELETE", "/v1/templates/linux").status == 200
