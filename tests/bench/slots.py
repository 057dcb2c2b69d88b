# SPDX-License-Identifier: Apache-2.0
"""make bench-slots: what a sandbox's network costs, from one run, in namespaces of its own.

First the slot alone: the 1st, the one that comes when 255 are there, and the same set-up by running
ip and nft (tests/bench/slot.c). Then a create with and without a network through the product.
"""
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import harness  # noqa: E402
import networld  # noqa: E402

COUNT, SAMPLES, RUNS = 256, 31, 30
NETWORK = {"egress": "internet", "ports": [{"guest": 80}]}


def slots():
    print(f"the slot alone, {SAMPLES} samples, microseconds")
    print(f"{'':24} {'median':>8} {'min':>8} {'max':>8}", flush=True)
    subprocess.run([os.path.join(harness.BUILD, "tests", "bench", "slot"), str(COUNT),
                    str(SAMPLES)], check=True, timeout=300)


def create(host, number, **spec):
    """(microseconds until the answer, the product's own timings)"""
    start = time.monotonic()
    box = host.create(id=f"b{number}", cmdline="tick=0", **spec)
    took = (time.monotonic() - start) * 1e6
    host.destroy(box["id"])
    return took, box["timings_us"]


def through_the_product(vmm, name):
    """Turn by turn, so that both see the same machine."""
    world = networld.World()
    host = networld.NetHost(vmm, name, world)
    without, with_network, slot = [], [], []
    try:
        host.start(log_level="warning")
        for number in range(RUNS):
            without.append(create(host, f"{number}a")[0])
            took, timings = create(host, f"{number}b", network=NETWORK)
            with_network.append(took)
            slot.append(timings["slot_us"])
        host.close()
    finally:
        host.cleanup()
        world.close()
    plain, networked = statistics.median(without), statistics.median(with_network)
    print(f"{name}: create without a network {plain:.0f}, with one {networked:.0f} "
          f"({networked / plain:.2f} times), of which the slot {statistics.median(slot):.0f}")


def main():
    if os.geteuid() != 0:
        sys.exit("network namespaces take root")
    slots()
    print(f"\nmedians of {RUNS} creates through the control socket, microseconds")
    if harness.REAL and harness.have_kvm():
        through_the_product(harness.REAL, "cloud-hypervisor")
    through_the_product(harness.STANDIN, "standin")


if __name__ == "__main__":
    main()
