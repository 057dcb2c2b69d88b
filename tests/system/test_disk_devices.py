# SPDX-License-Identifier: Apache-2.0
"""Block devices of the administrator's list as disks: who may have them, and one at a time."""
import contextlib
import os
import stat

import pytest

import diskmodel
import filesystems
from diskmodel import MIB, check_read, write_both
from harness import wait_for
from test_disks import ALICE, in_sandboxes, start, try_to_create, vmm_uid


@contextlib.contextmanager
def host_with_device(make_disk_host, tmp_path, mib=4):
    """A host whose administrator, and nobody else, may have "data"; gives (host, device, model)."""
    backing = os.path.join(tmp_path, "device.img")
    model = diskmodel.Model(bytes(mib * MIB))
    model.write(0, 16, 3)
    with open(backing, "wb") as f:
        f.write(model.data)
    with filesystems.loop_device(backing) as device:
        host = make_disk_host(config=f"[admin]\nblock_device = data {device}\n"
                                     f"block_device = file {backing}\n"
                                     f"block_device = none {device}-none\n")
        yield host, device, model
        for box in host.list():
            host.destroy(box["id"])


@pytest.mark.fs("ext4")
def test_block_device(make_disk_host, tmp_path):
    with host_with_device(make_disk_host, tmp_path) as (host, device, model):
        for uid, name in ((0, "other"), (ALICE, "data")):
            answer = try_to_create(host, uid, disks=[{"device": name}])
            assert answer.status == 422 and name in answer.json["detail"], answer
        for name in ("file", "none"):
            answer = try_to_create(host, disks=[{"device": name}])
            assert 422 <= answer.status <= 500 and "disks[0]" in answer.json["detail"], answer
        assert host.residue() == []
        box = start(host, disks=[{"device": "data"}])
        assert box["disks"][0]["device"] == "data" and box["disks"][0]["made"] == "device"
        assert box["disks"][0]["size_mib"] == 4 and "image" not in box["disks"][0]
        node = os.stat(f"/proc/{box['vmm']['pid']}/root/disk/0")
        assert stat.S_ISBLK(node.st_mode) and node.st_rdev == os.stat(device).st_rdev
        assert (stat.S_IMODE(node.st_mode), node.st_uid) == (0o600, vmm_uid(box))
        assert diskmodel.size(host, "one", 0) == model.sectors
        write_both(host, "one", 0, model, 4000, 20, 77)
        diskmodel.flush(host, "one", 0)
        check_read(host, "one", 0, model, [(0, 20), (3990, 40)])
        assert model.differs(device) is None or "bytes, not" in model.differs(device)
        # It has one user.
        answer = try_to_create(host, disks=[{"device": "data"}])
        assert answer.status in (409, 500, 502) and "data" in answer.json["detail"], answer
        # A template of it would be a second one.
        answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "t1"})
        assert answer.status == 409 and "data" in answer.json["detail"], answer
        host.act("one", "hibernate")
        host.act("one", "wake")
        check_read(host, "one", 0, model, [(3990, 40)])
        write_both(host, "one", 0, model, 100, 1, 78)
        host.destroy("one")
        assert in_sandboxes(host) == []
        with open(device, "rb") as f:
            assert f.read() == model.data
        # Read-only, it is not written.
        start(host, disks=[{"device": "data", "readonly": True}])
        check_read(host, "one", 0, model, [(3990, 40)])
        diskmodel.write(host, "one", 0, 0, 1, 79, want="ERR")


@pytest.mark.fs("ext4")
@pytest.mark.standin
def test_a_device_that_is_mounted_is_not_given_away(make_disk_host, tmp_path):
    with host_with_device(make_disk_host, tmp_path, 16) as (host, device, _model):
        filesystems.run("mkfs.ext4", "-q", "-F", device)
        point = os.path.join(host.base, "mounted")
        os.mkdir(point)
        filesystems.run("mount", device, point)
        try:
            answer = try_to_create(host, disks=[{"device": "data"}])
            assert answer.status >= 409 and "data" in answer.json["detail"], answer
            assert host.list() == []
        finally:
            filesystems.run("umount", "-l", point)
        wait_for(lambda: try_to_create(host, disks=[{"device": "data"}]).status == 201, 5,
                 "the device, once it is free")
