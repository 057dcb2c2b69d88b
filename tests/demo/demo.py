# SPDX-License-Identifier: Apache-2.0
"""make demo: a sandbox from start to end in a throw-away directory, narrated."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import harness  # noqa: E402
from harness import TENANT_UIDS, wait_for  # noqa: E402

ALICE = TENANT_UIDS["alice"]


def say(text):
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def cloister(host, *words, show=True):
    """Runs the client as tenant alice, who has no privilege but to reach the control socket."""
    if show:
        print(f"alice$ cloister {' '.join(words)}", flush=True)
    done = subprocess.run([os.path.join(harness.BUILD, "cloister"), "-s", host.control, *words],
                          user=ALICE, group=harness.CONTROL_GID, extra_groups=[],
                          stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    if show:
        print(done.stdout, end="", flush=True)
    return done.stdout


def show_jail(pid):
    say(f"Its jail, as /proc has it: {len(os.listdir(f'/proc/{pid}/task'))} threads of pid {pid}")
    with open(f"/proc/{pid}/status") as f:
        wanted = ("Name", "Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs")
        print("".join(line for line in f if line.split(":")[0] in wanted), end="")
    for kind in ("pid", "mnt", "net", "ipc", "uts"):
        ours, its = (os.readlink(f"/proc/{p}/ns/{kind}") for p in ("self", pid))
        print(f"namespace {kind}: {its} (host: {ours})")
    print("root directory:", " ".join(sorted(os.listdir(f"/proc/{pid}/root"))))
    print("/dev:", " ".join(sorted(os.listdir(f"/proc/{pid}/root/dev"))))
    with open(f"/proc/{pid}/net/dev") as f:
        print("network devices:", " ".join(l.split(":")[0].strip() for l in f if ":" in l))
    with open(f"/proc/{pid}/environ", "rb") as f:
        print("environment:", f.read() or "empty")


def kill_and_watch(host, pid):
    say("Kill the VMM with SIGKILL, as a crash, and watch for the event")
    events = host.events(uid=ALICE)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    event = events.wait(event="state", to="crashed")
    seen = events.times[events.seen.index(event)]
    print({k: event[k] for k in ("seq", "sandbox", "from", "to", "reason")})
    print("exit:", event["exit"])
    print(f"from kill to event: {(seen - killed) * 1000:.1f} ms")


def run(vmm, name):
    print(f"\n================ {name}: {vmm}")
    host = harness.Host(vmm, name)
    try:
        say("Start cloisterd as root; it starts its spawner, drops to its own user, and is ready")
        host.start(log_level="info")
        print(host.log(), end="")
        cloister(host, "info")
        say("Alice creates a sandbox")
        cloister(host, "create", "--id", "web", "--kernel", "tiny", "--memory", "64",
                 "--cmdline", "tick=100", "--label", "team=red")
        wait_for(lambda: "COUNT 3" in cloister(host, "console", "web", show=False), 15)
        say("What the guest prints on its console, and what it answers")
        cloister(host, "console", "web", "--send", "hello guest\n")
        wait_for(lambda: "ECHO" in cloister(host, "console", "web", show=False), 15)
        cloister(host, "console", "web")
        say("Pause it: the guest stands still; resume it: it goes on")
        cloister(host, "pause", "web")
        before = cloister(host, "console", "web", show=False)
        time.sleep(0.3)
        still = cloister(host, "console", "web", show=False) == before
        print("printed nothing for 300 ms while paused:", still)
        assert still
        cloister(host, "resume", "web")
        wait_for(lambda: cloister(host, "console", "web", show=False) != before, 15)
        cloister(host, "ls")
        pid = next(b for b in host.list("alice") if b["id"] == "web")["vmm"]["pid"]
        show_jail(pid)
        kill_and_watch(host, pid)
        cloister(host, "inspect", "web")
        say("Destroy it: the answer comes when nothing of it is left")
        cloister(host, "destroy", "web")
        left = host.residue()
        print("processes, mounts, cgroups, sockets and files left:", left or "none")
        assert not left
        say("Stop cloisterd")
        host.stop()
        left = host.residue(running=False)
        print("left now, namespaces included:", left or "none")
        assert not left
    finally:
        host.cleanup()


def main():
    if os.geteuid() != 0:
        sys.exit("the demo builds jails: run it as root")
    if harness.REAL and harness.have_kvm():
        run(harness.REAL, "the real Cloud Hypervisor")
    else:
        print("No cloud-hypervisor on PATH, or no usable /dev/kvm: the stand-in alone is shown.")
    run(harness.STANDIN, "our stand-in for Cloud Hypervisor")
    print("\ndemo: all steps passed")


if __name__ == "__main__":
    main()
