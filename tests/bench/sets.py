# SPDX-License-Identifier: Apache-2.0
"""make bench-sets: what a snapshot costs the guest, and a restore the host, by size and by data."""
import os
import re
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402

PRELOAD = os.path.join(harness.TOP, "build", "tests", "preload", "nested_state.so")
RUNS = 5


def ask(host, box, word, pattern):
    before = len(host.console(box))
    host.send(box, word + "\n")
    return wait_for(lambda: re.search(pattern, host.console(box)[before:]), 120, word).group(1)


def ram_kib(pid, field):
    """Of the guest's memory as the VMM maps it."""
    total, ours = 0, False
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                ours = line.rstrip().endswith("/ram")
            elif ours and line.startswith(field + ":"):
                total += int(line.split()[1])
    return total


def call(host, method, path, body=None, expect=(200, 201)):
    answer = host.api(method, path, body, timeout=300)
    assert answer.status in expect, answer
    return answer.json


def restores(host, template, mode):
    times, own = [], []
    for _ in range(RUNS):
        box = call(host, "POST", "/v1/sandboxes",
                   {"id": "clone", "template": template, "memory_restore": mode})
        times.append(box["timings_us"]["boot_us"])
        own.append(ram_kib(box["vmm"]["pid"], "Private_Dirty"))
        host.destroy("clone")
    return statistics.median(times), statistics.median(own)


def measure(host, mib, data):
    host.create(id="src", cmdline="tick=0", memory_mib=mib)
    host.wait_console("src", "GUEST UP")
    ask(host, "src", f"touch {data}", r"TOUCHED (\d+)\n")
    made = call(host, "POST", "/v1/sandboxes/src/snapshot", {"template": "t"})
    times = host.get("src")["timings_us"]
    print(f"{mib:5} MiB guest, {data:3} MiB of data: pause {times['pause_us'] / 1000:.1f} ms "
          f"(CH {times['vmm_us'] / 1000:.1f}, copy {times['copy_us'] / 1000:.1f}), "
          f"sync {times['sync_us'] / 1000:.1f} ms, set {made['allocated_bytes'] >> 20} MiB on disk")
    for mode in ("map", "copy"):
        took, own = restores(host, "t", mode)
        print(f"      restore {mode:5}: executed to running {took / 1000:5.1f} ms, "
              f"own guest memory {own} KiB (medians of {RUNS})")
    chain = []
    for _ in range(3):
        call(host, "POST", "/v1/sandboxes/src/hibernate")
        path = os.path.join(host.state_dir, "sandboxes", "admin:src", "set", "ram")
        chain.append(os.stat(path).st_blocks * 512 >> 10)
        call(host, "POST", "/v1/sandboxes/src/wake")
    print(f"      three hibernations take {chain} KiB")
    host.destroy("src")
    call(host, "DELETE", "/v1/templates/t")


def main():
    if not (harness.REAL and harness.have_kvm()):
        sys.exit("bench-sets measures the real Cloud Hypervisor: it is not on PATH, or no /dev/kvm")
    host = harness.Host(harness.REAL, "ch", limits="create_ms = 120000",
                        vmm_config=f"bind_ro = {PRELOAD}\nenv = LD_PRELOAD={PRELOAD}")
    try:
        host.start(log_level="warning")
        for mib in (256, 4096):
            for data in (16, 200):
                measure(host, mib, data)
    finally:
        host.close()


if __name__ == "__main__":
    main()
