# SPDX-License-Identifier: Apache-2.0
"""make demo: a sandbox from start to end in a throw-away directory, narrated."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import diskmodel  # noqa: E402
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


def show_disks(host):
    """A disk made from an image, a template that carries it, a clone that has its own."""
    say("An image of 16 MiB with a little data, as an administrator puts it there; Alice's sandbox "
        "gets a disk of its own from it, with room to grow")
    diskmodel.make_image(host, "base", [(0, 64, 1)], 16 << 20)
    cloister(host, "create", "--id", "db", "--kernel", "tiny", "--memory", "64",
             "--cmdline", "tick=0 do=dwrite_0_1000_8_5 do=dflush_0", "--disk", "image=base,size=64")
    wait_for(lambda: "DFLUSH 0 OK" in cloister(host, "console", "db", show=False), 15)
    cloister(host, "console", "db")
    say("A template takes memory and disk at one moment; a clone reads what was written before")
    cloister(host, "snapshot", "db", "golden")
    cloister(host, "create", "--id", "copy", "--template", "golden")
    want = f"DREAD 0 1000 8 {diskmodel.checksum(diskmodel.pattern(1000, 8, 5))}"
    cloister(host, "console", "copy", "--send", "dread 0 1000 8\n")
    wait_for(lambda: want in cloister(host, "console", "copy", show=False), 15)
    cloister(host, "console", "copy")
    for name in ("db", "copy"):
        path = diskmodel.path_of(host, name, 0, "alice")
        st = os.stat(path)
        print(f"on the host: disk of {name}: {st.st_size >> 20} MiB, {st.st_blocks // 2} KiB of it "
              f"allocated, owner uid {st.st_uid}, mode {st.st_mode & 0o777:04o}")
        cloister(host, "destroy", name)
    cloister(host, "templates", "rm", "golden")


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
    # Some hosts' KVM cannot save a vCPU's nested state; the preload answers that it is empty.
    preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}\n"
    host = harness.Host(vmm, name, vmm_config=preload if vmm == harness.REAL else "")
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
        show_disks(host)
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
