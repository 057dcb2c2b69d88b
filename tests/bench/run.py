# SPDX-License-Identifier: Apache-2.0
"""make bench: one table from one run, each row beside the floor it is measured against."""
import argparse
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import harness  # noqa: E402

FLOORS = {"create": "floor-create-boot", "kill-to-event": "floor-kill-wait"}


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def memory(host):
    """PSS of each kind of process with ten sandboxes up, in KiB."""
    for i in range(10):
        host.create(id=f"m{i}", cmdline="tick=0")
    shims = [pss_kib(p) for p in host.shim_pids()]
    figures = {
        "shim": sum(shims) // len(shims),
        "spawner": pss_kib(host.spawner_pids()[0]),
        "cloisterd": pss_kib(host.daemon.pid),
    }
    for i in range(10):
        host.destroy(f"m{i}")
    return figures


def measure(vmm, name, runs):
    host = harness.Host(vmm, name)
    try:
        host.start(log_level="warning")
        out = subprocess.run(
            [os.path.join(harness.BUILD, "tests", "bench", "bench"), host.control, vmm,
             harness.GUEST, "tiny", str(runs)],
            stdout=subprocess.PIPE, text=True, timeout=600, check=True).stdout
        rows = {}
        for line in out.splitlines():
            row, *numbers = line.split()
            rows[row] = dict(zip(("median_us", "min_us", "max_us"), map(int, numbers)))
        for row, floor in FLOORS.items():
            rows[row]["floor_ratio"] = round(rows[row]["median_us"] / rows[floor]["median_us"], 2)
            rows[row]["over_floor_us"] = rows[row]["median_us"] - rows[floor]["median_us"]
        return {"vmm": name, "runs": runs, "rows": rows, "pss_kib": memory(host)}
    finally:
        host.close()


def show(result):
    print(f"\n{result['vmm']}: {result['runs']} runs, microseconds")
    print(f"{'':20}{'median':>9}{'min':>9}{'max':>9}  of floor   over floor")
    for name, row in result["rows"].items():
        ratio = f"{row['floor_ratio']:>8}x {row['over_floor_us']:>10}" if "floor_ratio" in row else ""
        print(f"{name:20}{row['median_us']:>9}{row['min_us']:>9}{row['max_us']:>9}  {ratio}")
    print("PSS with ten sandboxes: " +
          ", ".join(f"{kind} {kib} KiB" for kind, kib in result["pss_kib"].items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    vmms = [(harness.STANDIN, "standin")]
    if harness.REAL and harness.have_kvm():
        vmms.insert(0, (harness.REAL, "cloud-hypervisor"))
    elif not arguments.json:
        print("no cloud-hypervisor on PATH, or no /dev/kvm: only the stand-in is measured")
    results = [measure(vmm, name, arguments.runs) for vmm, name in vmms]
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            show(result)


if __name__ == "__main__":
    main()
