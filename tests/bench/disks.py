# SPDX-License-Identifier: Apache-2.0
"""make bench-disks: what a disk of a 4 GiB image with 1 GiB of data costs, in time and in bytes.

In each way that there is (FICLONE on xfs and btrfs, a copy of the data on ext4), through the
product: at create, at the snapshot (while the guest stands still) and at a clone; beside cp in the
same run.
"""
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import filesystems  # noqa: E402
import harness  # noqa: E402

MIB = 1 << 20
IMAGE_MIB, DATA_MIB, PIECES = 4096, 1024, 64
ROOM_MIB = 24576  # of the file system; its own file is sparse
RUNS = 3


def make_image(path):
    """Data in pieces all over the image, the rest holes."""
    block = os.urandom(DATA_MIB // PIECES * MIB)
    with open(path, "xb") as f:
        f.truncate(IMAGE_MIB * MIB)
        for piece in range(PIECES):
            f.seek(piece * (IMAGE_MIB // PIECES) * MIB)
            f.write(block)
    os.chmod(path, 0o444)


def free(point):
    """Once it does not change any more: xfs and btrfs give back what was removed a while later."""
    found = []
    while len(found) < 4 or len(set(found[-4:])) > 1:
        subprocess.run(["sync", "-f", point], check=True)
        found.append(filesystems.room(point))
        time.sleep(0.05)
    return found[-1]


def measure(point, call, undo):
    """Medians of (milliseconds, MiB that it added); call() gives its own time in us, or None."""
    times, added = [], []
    for _ in range(RUNS):
        before, start = free(point), time.monotonic()
        told = call()
        took_us = told if told is not None else (time.monotonic() - start) * 1e6
        times.append(took_us / 1000)
        added.append((before - free(point)) / MIB)
        undo()
    return statistics.median(times), statistics.median(added)


def show(what, way, result, floor=None):
    ms, mib = result
    ratio = f"  {ms / floor[0]:6.3f} of cp" if floor else ""
    print(f"  {what:34} {way:8} {ms:9.1f} ms {mib:9.1f} MiB added{ratio}", flush=True)


def cp(image, target, *options):
    def call():
        subprocess.run(["cp", *options, image, target], check=True)
    return call, lambda: os.unlink(target)


def post(host, path, body, expect=201):
    answer = host.api("POST", path, body, timeout=300)
    assert answer.status == expect, answer
    return answer.json


def measure_product(host, point, floor):
    boxes = []

    def create(**spec):
        box = post(host, "/v1/sandboxes", {"id": f"b{len(boxes)}", **spec})
        boxes.append(box)
        return box["timings_us"]["disks_us"]

    def destroy():
        host.destroy(boxes[-1]["id"])

    fresh = {"kernel": "tiny", "memory_mib": 32, "cmdline": "tick=0",
             "disks": [{"image": "big"}]}
    result = measure(point, lambda: create(**fresh), destroy)
    way = boxes[-1]["disks"][0]["made"]
    show("create", way, result, floor)
    post(host, "/v1/sandboxes", {"id": "src", **fresh})

    def snapshot():
        post(host, "/v1/sandboxes/src/snapshot", {"template": "t"})
        times = host.get("src")["timings_us"]
        pauses.append(times["pause_us"] / 1000)
        return times["disks_us"]

    pauses = []
    drop = lambda: host.api("DELETE", "/v1/templates/t")
    show("snapshot (of it, the disk's part)", way, measure(point, snapshot, drop), floor)
    print(f"  {'':34} the guest stood still for {statistics.median(pauses):.1f} ms in all")
    snapshot()
    show("clone from that template", way, measure(point, lambda: create(template="t"), destroy),
         floor)
    assert drop().status == 200
    host.destroy("src")


def measure_on(kind, vmm, name):
    # Without it xfs sets room aside behind what is being written, which is no cost of a disk.
    options = "noatime,allocsize=64k" if kind == "xfs" else "noatime"
    with filesystems.mounts().small(kind, ROOM_MIB, options) as (point, _image):
        preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}\n"
        host = harness.Host(vmm, name, state_root=point, limits="disks_ms = 300000\n"
                            "snapshot_ms = 300000\n", vmm_config=preload if name == "ch" else "")
        try:
            host.start(log_level="warning")
            image = os.path.join(host.state_dir, "images", "disks", "big")
            make_image(image)
            print(f"{kind}: {IMAGE_MIB} MiB image, {os.stat(image).st_blocks // 2048} MiB of data",
                  flush=True)
            target = os.path.join(point, "copy")
            floor = measure(point, *cp(image, target, "--reflink=never", "--sparse=auto"))
            show("floor: cp --sparse=auto", "", floor)
            show("cp --sparse=always", "",
                 measure(point, *cp(image, target, "--reflink=never", "--sparse=always")))
            show("cp --sparse=never", "",
                 measure(point, *cp(image, target, "--reflink=never", "--sparse=never")))
            measure_product(host, point, floor)
        finally:
            host.close()


def main():
    if os.geteuid() != 0:
        sys.exit("bench-disks mounts file systems: run it as root")
    real = harness.REAL and harness.have_kvm()
    vmm = (harness.REAL, "ch") if real else (harness.STANDIN, "standin")
    print(f"on {'the real Cloud Hypervisor' if real else 'the stand-in'}, medians of {RUNS}")
    try:
        for kind in filesystems.KINDS:
            why = filesystems.why_not(kind)
            if why:
                print(f"{kind}: left out: {why}")
            else:
                measure_on(kind, *vmm)
    finally:
        filesystems.close()


if __name__ == "__main__":
    main()
