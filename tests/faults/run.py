# SPDX-License-Identifier: Apache-2.0
"""The whole matrix of faults (matrix.py), with its cells counted; make soak runs it.

Each line: the operation, the role, how many steps it has, cells run, failures. --stride N takes
every N-th step only, and says so.
"""
import argparse
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "system")]
import harness  # noqa: E402
import matrix  # noqa: E402
import nomem  # noqa: E402


def sweep(series, operation, role, hows, stride, first=1):
    """Every step, as far as there are any. (steps, cells)"""
    before = series.cells
    counted, _ = series.cell(operation, role, None, "fallible" if "fail" in hows else None)
    at = first
    while True:
        reached = False
        for how in hows:
            _, struck = series.cell(operation, role, at, how)
            reached |= struck
        if not reached or at > 2000:
            break
        at += stride
    return counted.count if counted else 0, series.cells - before


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vmm", choices=["standin", "ch"], default="standin")
    parser.add_argument("--how", default="before,after", help="before, after, fail")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--nomem", action="store_true", help="allocations fail, not system calls")
    parser.add_argument("--roles", default=",".join(matrix.ROLES))
    parser.add_argument("--operations", default=",".join(matrix.OPERATIONS))
    arguments = parser.parse_args()
    hows, roles = arguments.how.split(","), arguments.roles.split(",")
    if arguments.nomem:
        hows, roles = ["fail"], [r for r in roles if r in nomem.ROLES]
    kind = nomem.Series if arguments.nomem else matrix.Series
    series = kind(harness.REAL if arguments.vmm == "ch" else harness.STANDIN, arguments.vmm)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    try:
        failed = run(series, arguments, hows, roles)
        series.close(check=not failed)
    except BaseException:
        series.close(check=False)
        raise
    sys.exit(bool(failed))


def run(series, arguments, hows, roles):
    started, total = time.monotonic(), 0
    what = "allocation" if arguments.nomem else "step"
    print(f"{arguments.vmm}: {','.join(hows)}, every {what}" if arguments.stride == 1 else
          f"{arguments.vmm}: {','.join(hows)}, every {arguments.stride}th {what}", flush=True)
    for name in arguments.operations.split(","):
        operation = matrix.OPERATIONS[name]
        if arguments.nomem and not operation.run:
            continue
        for role in (r for r in operation.roles if r in roles):
            failed, begun = len(series.failures), time.monotonic()
            steps, cells = sweep(series, operation, role, hows, arguments.stride)
            total += steps
            print(f"{name:16} {role:10} {steps:4} steps {cells:4} cells "
                  f"{len(series.failures) - failed:3} failed "
                  f"{time.monotonic() - begun:6.1f} s", flush=True)
            for failure in series.failures[failed:]:
                print("  " + failure[:900], flush=True)
    print(f"{total} steps, {series.cells} cells, {len(series.failures)} failed, "
          f"{time.monotonic() - started:.0f} s")
    return len(series.failures)


if __name__ == "__main__":
    main()
