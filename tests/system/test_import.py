# SPDX-License-Identifier: Apache-2.0
"""A set made by a plain Cloud Hypervisor becomes a template, is restored, and goes on as ours."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import harness
from harness import wait_for
from test_snapshot import PRELOAD, checksum, count, drop_template, host, restore, snapshot  # noqa: F401

sys.path.insert(0, os.path.join(harness.TOP, "tests", "standin"))
import vmm_harness  # noqa: E402

MIB = 1 << 20


@pytest.fixture
def plain(host, tmp_path):  # noqa: F811
    """(directory, checksum, count) of a set that the VMM under test made without any of us."""
    env = {"LD_PRELOAD": PRELOAD} if host.name == "ch" else {}
    directory = tmp_path / "set"
    directory.mkdir()
    with vmm_harness.Vmm(host.vmm, env=env) as vmm:
        vmm.boot("tick=0", memory={"size": 64 * MIB}, console={"mode": "Null"})
        vmm.wait_text("GUEST UP")
        vmm.ask("touch 4", r"TOUCHED 4\n")
        total = vmm.ask("sum", r"SUM ([0-9a-f]+)\r?\n").group(1)
        number = int(vmm.ask("count", r"COUNT (\d+)\r?\n").group(1))
        assert vmm.call("PUT", "vm.pause").status == 204
        answer = vmm.call("PUT", "vm.snapshot", {"destination_url": f"file://{directory}"})
        assert answer.status == 204, answer.body
    return directory, total, number


def import_set(host, name, directory, *more, expect=0):  # noqa: F811
    done = subprocess.run(
        [os.path.join(harness.BUILD, "cloister"), "-s", host.control, "templates", "import",
         "--config", host.config_path, "--vmm-version", "53.0.0", *more, name, str(directory)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == expect, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def known(host, name):  # noqa: F811
    return wait_for(lambda: (lambda a: a.status == 200 and a.json)(
        host.api("GET", f"/v1/templates/{name}")), 10, f"template {name}")


def test_plain_set_is_restored_and_goes_on(host, plain):  # noqa: F811
    directory, want, number = plain
    assert "64 MiB" in import_set(host, "plain", directory)
    made = known(host, "plain")
    assert made["content"] == ["memory-ranges"] and made["memory_mib"] == 64
    # The zero pages of CH's dense file are not stored.
    assert made["allocated_bytes"] < 16 * MIB < made["apparent_bytes"]
    for mode in ("copy", "ondemand"):
        box = restore(host, mode, "plain", mode)
        assert box["memory_restore"] == mode
        assert checksum(host, mode) == want and count(host, mode) >= number
    assert restore(host, "bad", "plain", "map", 422)["status"] == 422
    # What comes of it is such a set again, and works as any other.
    assert snapshot(host, "copy", "second")["content"] == ["memory-ranges"]
    restore(host, "third", "second")
    assert checksum(host, "third") == want
    host.act("copy", "hibernate")
    host.act("copy", "wake")
    assert checksum(host, "copy") == want
    assert "already" in import_set(host, "plain", directory, expect=1)
    drop_template(host, "plain")
    drop_template(host, "second")


def edit(directory, change):
    path = directory / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.chmod(0o600)
    path.write_text(json.dumps(config))


@pytest.mark.standin
def test_what_cannot_be_imported_is_named(host, plain):  # noqa: F811
    directory = plain[0]
    cases = [
        (lambda c: c.update(disks=[{"path": "/x"}]), "disks"),
        (lambda c: c.update(net=[{}]), "net"),
        (lambda c: c.update(vsock={"cid": 3, "socket": "/s"}), "vsock"),
        (lambda c: c["memory"].update(zones=[{"id": "a", "size": 1}]), "memory.zones"),
        (lambda c: c["memory"].update(size=65 * MIB), "memory-ranges"),
        (lambda c: c["memory"].update(size=5), "memory.size"),
        (lambda c: c["cpus"].update(boot_vcpus=0), "boot_vcpus"),
        (lambda c: c.pop("cpus"), "boot_vcpus"),
    ]
    for number, (change, word) in enumerate(cases):
        copy = directory.parent / f"copy{number}"
        shutil.copytree(directory, copy)
        edit(copy, change)
        assert word in import_set(host, "bad", copy, expect=1), word
    for name in ("config.json", "state.json", "memory-ranges"):
        copy = directory.parent / f"without-{name}"
        shutil.copytree(directory, copy)
        (copy / name).unlink()
        assert name in import_set(host, "bad", copy, expect=1)
        (copy / name).mkdir()
        assert import_set(host, "bad", copy, expect=1)
    copy = directory.parent / "torn"
    shutil.copytree(directory, copy)
    os.truncate(copy / "state.json", 100)
    assert "state.json" in import_set(host, "bad", copy, expect=1)
    assert import_set(host, "Not A Name", directory, expect=1)
    assert os.listdir(os.path.join(host.state_dir, "templates")) == []
    # Only for admins is the list read again.
    answer = host.api("POST", "/v1/templates/rescan", uid=harness.TENANT_UIDS["alice"])
    assert answer.status == 403


def test_for_a_tenant_and_without_a_daemon(host, plain):  # noqa: F811
    directory, want, _ = plain
    host.stop()
    import_set(host, "plain", directory, "--tenant", "alice")
    host.start()
    alice = harness.TENANT_UIDS["alice"]
    box = host.api("POST", "/v1/sandboxes", {"id": "a", "template": "plain"}, uid=alice)
    assert box.status == 201, box
    host.api("POST", "/v1/sandboxes/a/console", raw=b"sum\n", uid=alice)
    wait_for(lambda: re.search(f"SUM {want}\n", host.console("a", uid=alice)), 15, "the checksum")
    assert host.api("DELETE", "/v1/sandboxes/a", uid=alice).status == 200
    assert host.api("DELETE", "/v1/templates/plain", uid=alice).status == 200
