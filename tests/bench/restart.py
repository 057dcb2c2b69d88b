# SPDX-License-Identifier: Apache-2.0
"""make bench-restart: how soon a cloisterd serves again that finds COUNT live stand-in sandboxes."""
import argparse
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import harness  # noqa: E402

MAKERS = 8  # creates in flight


def fill(host, count):
    todo = iter(range(count))
    lock = threading.Lock()

    def make():
        while True:
            with lock:
                i = next(todo, None)
            if i is None:
                return
            host.create(id=f"box{i:04}", cmdline="tick=0", memory_mib=16)
    makers = [threading.Thread(target=make) for _ in range(MAKERS)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def restart(host, sig, wrapper):
    """(seconds from execve to READY=1, and to the whole list; what the list says)."""
    host.stop(sig)
    begin = time.monotonic()
    host.daemon = host.spawn(log_level="info", wrapper=wrapper)
    harness.wait_for(lambda: host.ready() or host.daemon.poll() is not None, 60, "READY=1")
    ready = time.monotonic() - begin
    listed = host.list()
    return ready, time.monotonic() - begin, listed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--wrapper", default="", help="what runs cloisterd: \"strace -f -o FILE\"")
    arguments = parser.parse_args()
    count = arguments.count
    host = harness.Host(harness.STANDIN, tenants=False, limits=f"max_sandboxes = {count + 8}",
                        uid_count=count + 16)
    try:
        host.start(log_level="warning")
        begin = time.monotonic()
        fill(host, count)
        print(f"{count} sandboxes made in {time.monotonic() - begin:.1f} s", flush=True)
        pids = {box["id"]: box["vmm"]["pid"] for box in host.list()}
        for run in range(arguments.runs):
            sig = signal.SIGKILL if run % 2 else signal.SIGTERM
            ready, listed, boxes = restart(host, sig, arguments.wrapper.split())
            assert {box["id"]: box["vmm"]["pid"] for box in boxes} == pids
            spawner, = host.spawner_pids()
            print(f"after {sig.name}: READY=1 in {ready * 1000:.0f} ms, a list of {len(boxes)} in "
                  f"{listed * 1000:.0f} ms; cloisterd {resident_kib(host.daemon.pid)} KiB and "
                  f"{descriptors(host.daemon.pid)} descriptors, spawner {resident_kib(spawner)} KiB "
                  f"and {descriptors(spawner)}", flush=True)
    finally:
        host.cleanup()


if __name__ == "__main__":
    main()
