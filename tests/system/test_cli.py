# SPDX-License-Identifier: Apache-2.0
"""The `cloister` client against the real cloisterd."""
import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading

import pytest

import harness
from harness import TENANT_UIDS, alive, wait_for

CLOISTER = os.path.join(harness.BUILD, "cloister")
COMMANDS = ["create", "run", "ls", "inspect", "pause", "resume", "power-button", "destroy", "console",
            "logs", "events", "drain", "info", "check", "help", "version"]


def environment(host, **more):
    return {"CLOISTER_SOCKET": host.control if host else "/nowhere", "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8", "ASAN_OPTIONS": "detect_leaks=0", **more}


def cli(host, *args, data=None, uid=0, timeout=30, **env):
    """The finished client; text is decoded."""
    who = {"user": uid, "group": uid, "extra_groups": [harness.CONTROL_GID]} if uid else {}
    return subprocess.run([CLOISTER, *args], capture_output=True, text=True, timeout=timeout,
                          input=data, env=environment(host, **env), **who)


def start(host, *args, **options):
    return subprocess.Popen([CLOISTER, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=environment(host), **options)


class Output:
    """Reads a process's stdout as it comes."""

    def __init__(self, process):
        self.text = ""
        self.thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self.thread.start()

    def _read(self, process):
        with contextlib.suppress(ValueError, OSError):
            while data := os.read(process.stdout.fileno(), 65536):
                self.text += data.decode(errors="replace")

    def wait(self, text, timeout=15):
        wait_for(lambda: text in self.text, timeout, f"{text!r} in {self.text[-500:]!r}")

    def all(self):
        self.thread.join(10)
        return self.text


def ok(done):
    assert done.returncode == 0, done
    return done.stdout


def refused(done, code, *says):
    assert done.returncode == code and done.stdout == "", done
    for word in says:
        assert word in done.stderr, done
    return done.stderr


def test_a_life_on_the_command_line(host):
    host.add_image("initramfs", "init", harness.GUEST)
    done = cli(host, "create", "--id", "one", "--kernel", "tiny", "--initramfs", "init", "--cmdline",
               "tick=0 x y", "--vcpus", "2", "--memory", "48M", "--label", "team=a=b", "--label",
               "empty=", "--no-balloon")
    assert ok(done) == "one\n" and re.fullmatch(r"cloister: running after \S+ \w+\n", done.stderr)
    box = host.get("one")
    assert {k: box[k] for k in ("kernel", "initramfs", "cmdline", "vcpus", "memory_mib", "balloon",
                                "labels")} == {
        "kernel": "tiny", "initramfs": "init", "cmdline": "tick=0 x y", "vcpus": 2,
        "memory_mib": 48, "balloon": False, "labels": {"team": "a=b", "empty": ""}}
    assert json.loads(ok(cli(host, "inspect", "one", "--json"))) == box
    text = ok(cli(host, "inspect", "one"))
    for line in (f"vmm.pid: {box['vmm']['pid']}", "labels.team: a=b", "exit: -", "state: running"):
        assert line + "\n" in text, text

    head, row = ok(cli(host, "ls")).splitlines()
    assert head.split() == ["ID", "TENANT", "STATE", "VCPUS", "MEMORY", "AGE", "EXIT"]
    assert re.fullmatch(r"one +admin +running +2 +48M +\d+s +-", row), row
    assert json.loads(ok(cli(host, "ls", "--json"))) == {"sandboxes": [box]}
    for args, count in ((("--label", "team=a=b"), 1), (("--label", "team=%26"), 0),
                        (("--state", "paused"), 0), (("--state", "running"), 1),
                        (("--label", "empty=", "--state", "running"), 1)):
        assert len(ok(cli(host, "ls", *args)).splitlines()) == 1 + count

    assert ok(cli(host, "pause", "one")) == "one paused\n" and host.get("one")["state"] == "paused"
    refused(cli(host, "pause", "one"), 1, "paused", "running")
    problem = cli(host, "pause", "one", "--json")
    assert problem.returncode == 1 and json.loads(problem.stderr)["status"] == 409
    assert json.loads(ok(cli(host, "resume", "one", "--json")))["state"] == "running"

    host.wait_console("one", "GUEST UP")
    ok(cli(host, "console", "one", "--send", "from the client\n"))
    host.wait_console("one", "ECHO from the client")
    ok(cli(host, "console", "one", "--send", "-", data="and from a pipe\n"))
    host.wait_console("one", "ECHO and from a pipe")
    whole = ok(cli(host, "console", "one"))
    assert whole.encode() == host.api("GET", "/v1/sandboxes/one/console?tail=65536").body
    assert ok(cli(host, "logs", "one", "--tail", "5")) == whole[-5:]
    follow = start(host, "console", "one", "--follow")
    output = Output(follow)
    output.wait("from a pipe")
    host.send("one", "poweroff\n")
    assert follow.wait(15) == 0 and output.all().startswith(whole)
    host.wait_state("one", "stopped")
    assert ok(cli(host, "ls")).splitlines()[1].split()[-1] == "guest-shutdown"

    # Each of several is tried; the first failure is the exit code.
    ok(cli(host, "create", "--kernel", "tiny", "--memory", "32", "--id", "two"))
    done = cli(host, "destroy", "none", "one", "two")
    assert done.returncode == 4 and done.stdout == "one destroyed\ntwo destroyed\n"
    for args in (("inspect", "one"), ("pause", "one"), ("destroy", "one"), ("console", "one"),
                 ("console", "one", "-f"), ("console", "one", "--send", "x"), ("power-button", "one")):
        refused(cli(host, *args), 4, "no such sandbox")
    assert host.residue() == []


def test_run_ends_as_its_guest_does(host):
    run = ("run", "--kernel", "tiny", "--memory", "32", "--id", "r")
    done = cli(host, *run, "--cmdline", "tick=0 do=poweroff")
    assert (done.returncode, done.stderr) == (0, "") and "GUEST UP" in done.stdout
    assert host.residue() == [] and host.list() == []

    done = cli(host, *run, "--cmdline", "tick=0 do=panic")
    assert done.returncode == 1 and "GUEST UP" in done.stdout
    assert re.fullmatch(r"cloister: sandbox r: guest-panic: .*\n", done.stderr)
    assert host.residue() == [] and host.list() == []

    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        client = start(host, *run)
        output = Output(client)
        output.wait("GUEST UP")
        client.send_signal(sig)
        assert client.wait(15) == 128 + sig, client.stderr.read()
        assert host.list() == [] and host.residue() == []

    client = start(host, *run)
    output = Output(client)
    output.wait("GUEST UP")
    os.kill(host.get("r")["vmm"]["pid"], signal.SIGKILL)
    assert client.wait(15) == 1 and "vmm-killed" in client.stderr.read()
    assert host.list() == [] and host.residue() == []

    done = cli(host, *run, "--cmdline", "do=poweroff", "--keep")
    assert done.returncode == 0 and host.get("r")["exit"]["cause"] == "guest-shutdown"
    refused(cli(host, *run, "--cmdline", "do=poweroff"), 1, "r")
    assert host.get("r")["state"] == "stopped", "a name that was taken is not ended"
    host.destroy("r")


@pytest.mark.standin
def test_run_in_detail(host):
    run = ("run", "--kernel", "tiny", "--memory", "32", "--id", "r")
    # Standard input goes to the guest; its end does not end the run.
    client = start(host, *run, "-i", "--cmdline", "tick=0", stdin=subprocess.PIPE)
    output = Output(client)
    output.wait("GUEST UP")
    client.stdin.write("typed in\n")
    client.stdin.flush()
    output.wait("ECHO typed in")
    client.stdin.write("poweroff\n")
    client.stdin.close()
    assert client.wait(15) == 0

    # --json: the console as records, then the sandbox's last one.
    lines = [json.loads(line) for line in
             ok(cli(host, *run, "--json", "--cmdline", "tick=0 do=poweroff")).splitlines()]
    assert lines[-1]["state"] == "stopped" and lines[-1]["id"] == "r"
    assert "GUEST UP" in "".join(line["data"] for line in lines[:-1])

    # Ended by somebody else.
    client = start(host, *run)
    Output(client).wait("GUEST UP")
    host.destroy("r")
    assert client.wait(15) == 1 and "destroyed" in client.stderr.read()

    # A signal while the sandbox is being made ends it as soon as it is.
    client = start(host, *run, "--cmdline", "standin:vm.boot=delay:400")
    wait_for(lambda: any(b["state"] == "creating" for b in host.list()), what="a create")
    client.send_signal(signal.SIGTERM)
    assert client.wait(15) == 143 and host.list() == [] and host.residue() == []

    # Nobody reads: the guest is ended, not left behind.
    client = start(host, *run, "--cmdline", "tick=10")
    wait_for(lambda: any(b["state"] == "running" for b in host.list()), what="a running sandbox")
    client.stdout.close()
    assert client.wait(15) == 1 and "standard output" in client.stderr.read()
    assert host.list() == [] and host.residue() == []

    # The supervisor is started anew meanwhile: nothing of the console is lost or doubled.
    client = start(host, *run, "--cmdline", "tick=5")
    output = Output(client)
    for number in (3, 30):
        output.wait(f"COUNT {number}\n")
        host.stop(signal.SIGKILL)
        host.start()
    output.wait("COUNT 60\n")
    host.send("r", "poweroff\n")
    assert client.wait(15) == 0
    counts = [int(n) for n in re.findall(r"COUNT (\d+)\n", output.all())]
    assert counts == list(range(counts[0], counts[0] + len(counts))) and counts[-1] >= 60
    assert "trying again" in client.stderr.read()
    assert host.list() == [] and host.residue() == []


@pytest.mark.standin
def test_events_and_info(host):
    host.create(id="one")
    host.destroy("one")
    reader = start(host, "events", "--since", "0")
    output = Output(reader)
    output.wait("destroying")
    first, second = output.text.splitlines()[:2]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(stamp + r"  1  admin one  state .* -> creating .*", first), first
    assert re.fullmatch(stamp + r"  2  admin one  state creating -> running .*", second), second
    reader.send_signal(signal.SIGTERM)
    reader.wait(10)
    reader = start(host, "events", "--json")
    output = Output(reader)
    # It is listening once what happens is seen.
    def seen():
        host.destroy(host.create()["id"])
        return "destroying" in output.text
    wait_for(seen, what="an event")
    events = [json.loads(line) for line in output.text.splitlines() if line.endswith("}")]
    assert {e["event"] for e in events} == {"state"} and events[0]["seq"] > 3
    host.stop(signal.SIGKILL)
    assert reader.wait(10) == 3
    # It says where to go on: at the last one that it printed.
    last = json.loads(output.all().splitlines()[-1])["seq"]
    assert f"events --since {last}" in reader.stderr.read()
    host.start()

    info = host.api("GET", "/v1/info").json
    assert json.loads(ok(cli(host, "info", "--json"))) == info
    text = ok(cli(host, "info"))
    assert f"version: {info['version']}\n" in text and "vmm.version: 53.0.0\n" in text
    assert "it answers" in ok(cli(host, "check"))
    assert ok(cli(host, "version")) == f"cloister {info['version']}\n"
    assert json.loads(ok(cli(host, "version", "--json"))) == {"version": info["version"]}


@pytest.mark.standin
def test_tenants_and_files(host):
    alice, bob = TENANT_UIDS["alice"], TENANT_UIDS["bob"]
    spec = '{"kernel": "tiny", "id": "f", "memory_mib": 32}'
    assert ok(cli(host, "create", "--file", "-", data=spec, uid=alice)) == "f\n"
    assert "f" in ok(cli(host, "ls", uid=alice)) and len(ok(cli(host, "ls", uid=bob)).splitlines()) == 1
    refused(cli(host, "inspect", "f", uid=bob), 4, "no such sandbox")
    refused(cli(host, "destroy", "f", uid=bob), 4, "no such sandbox")
    refused(cli(host, "inspect", "f"), 4)
    assert "tenant: alice\n" in ok(cli(host, "--tenant", "alice", "inspect", "f"))
    refused(cli(host, "-t", "bob", "inspect", "f"), 4)
    assert ok(cli(host, "-t", "alice", "destroy", "f")) == "f destroyed\n"
    refused(cli(host, "ls", uid=harness.STRANGER_UID), 1, "tenant")
    path = os.path.join(host.base, "spec.json")
    with open(path, "w") as f:
        f.write(spec)
    assert ok(cli(host, "create", "--file", path)) == "f\n"
    refused(cli(host, "create", "--file", path), 1, "f")
    refused(cli(host, "create", "--file", path + ".missing"), 1, "No such file")
    refused(cli(host, "create", "--file", "-", data="{"), 1, "JSON")
    refused(cli(host, "create", "--file", "-", data=" " * (2 << 20)), 1, "larger")
    refused(cli(host, "create", "--kernel", "missing"), 1, "missing", "images/kernels")
    done = cli(host, "create", "--kernel", "tiny", "--memory", "32", "--no-wait", "--id", "n")
    assert ok(done) == "n\n" and "creating" in done.stderr


@pytest.mark.standin
def test_usage(host):
    """Each wrong command line has a message of its own, one line, and nothing is sent."""
    kernel = ("create", "--kernel", "tiny")
    for args, says in (
            ((), "which command"), (("frob",), 'no command "frob"'), (("-x",), "unknown option -x"),
            (("--frob",), "unknown option --frob"), (("-s",), "-s needs a value"),
            (("--json=1", "ls"), "takes no value"), (("ls", "x"), "usage: cloister ls"),
            (("ls", "--keep"), "unknown option --keep for ls"), (("inspect",), "usage: cloister inspect"),
            (("create",), "--kernel NAME"), (("create", "--kernel", "../x"), "is not a name"),
            ((*kernel, "--kernel", "k"), "given twice"), ((*kernel, "--memory", "1T"), "not a size"),
            ((*kernel, "--memory", "15"), "not a size"), ((*kernel, "--memory", ""), "not a size"),
            ((*kernel, "--memory", "99999999G"), "not a size"), ((*kernel, "--vcpus", "0"), "1 to 254"),
            ((*kernel, "--vcpus", "-1"), "1 to 254"), ((*kernel, "--label", "x"), "not KEY=VALUE"),
            ((*kernel, "--label", "=x"), "not KEY=VALUE"), (("create", "--file", "-", "--id", "x"), "sent as it is"),
            (("--timeout", "0", "ls"), "from 1 to 86400"), (("pause", "No"), "not a sandbox's id"),
            (("pause", "../x"), "not a sandbox's id"), (("pause", "a?tenant=b"), "not a sandbox's id"),
            (("console", "a", "--tail", "x"), "not a whole number"), (("help", "zzz"), "no command"),
            (("-s", "x" * 200, "ls"), "longer than"), (("destroy", "a", "--grace", "9999"), "from 0 to 3600"),
            (("console", "a", "--send", "x", "--tail", "1"), "exclude")):
        assert refused(cli(host, *args), 2, says).count("\n") == 1
    assert host.list() == []
    text = ok(cli(host, "help"))
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", text, re.M)
        assert ok(cli(host, "help", command)) == ok(cli(host, command, "--help")) != ""
    with open("/dev/full", "w") as full:
        done = subprocess.run([CLOISTER, "help"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "No space" in done.stderr


@pytest.mark.standin
def test_what_a_guest_prints_does_not_steer_a_terminal(host):
    """As it is into a pipe, without control bytes to a terminal."""
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    host.send("one", "a\x1b[31mred\x07\x9b\n")
    host.wait_console("one", "red")
    wait_for(lambda: "\n" in host.console("one").split("red")[1], what="the line's end")

    def on_terminal(*args):
        master, slave = pty.openpty()
        client = subprocess.Popen([CLOISTER, *args], env=environment(host), stdout=slave, stdin=slave)
        os.close(slave)
        data = b""
        with contextlib.suppress(OSError):
            while piece := os.read(master, 4096):
                data += piece
        os.close(master)
        assert client.wait(10) == 0
        return data

    assert "\x1b[31m" in ok(cli(host, "console", "one"))
    shown = on_terminal("console", "one")
    assert b"ECHO a?[31mred?" in shown and not set(shown) & {0x1b, 0x07, 0x9b}
    assert b"\x1b[31m" in on_terminal("console", "one", "--raw")


@pytest.mark.standin
def test_unreachable(host):
    for args in (("ls",), ("info",), ("check",), ("inspect", "a"), ("events",), ("console", "a", "-f"),
                 ("create", "--kernel", "tiny"), ("run", "--kernel", "tiny")):
        done = cli(host, "-s", "/nowhere/control.sock", *args)
        assert done.returncode == 3 and "/nowhere/control.sock" in done.stderr, done
    assert "is cloisterd running" in cli(host, "-s", "/nowhere/control.sock", "ls").stderr

    # Something else answers there, or nothing.
    path = os.path.join(host.base, "other.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        for raw, code, says in (
                (b"", 3, "without an answer"), (b"SSH-2.0\r\n", 3, "does not start with"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 3, "middle of"),
                (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", 3, "malformed chunk"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", 3, "larger than"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 1, "no JSON object"),
                (b"HTTP/1.1 500 E\r\nConnection: close\r\n\r\nboo\x1b\n", 1, "answered 500: boo"),
                (None, 3, "in time")):
            client = start(None, "-s", path, "--timeout", "1", "info")
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                if raw is not None:
                    peer.sendall(raw)
                    peer.shutdown(socket.SHUT_WR)
                _, error = client.communicate(timeout=10)
            assert client.returncode == code and says in error and "\x1b" not in error, (raw, error)


@pytest.mark.standin
def test_a_client_that_is_killed_leaves_its_sandbox(host):
    """Only a signal that can be caught ends a run's sandbox; SIGKILL leaves it to be looked after."""
    client = start(host, "run", "--kernel", "tiny", "--memory", "32", "--id", "r")
    Output(client).wait("GUEST UP")
    client.kill()
    client.wait(10)
    box = host.get("r")
    assert box["state"] == "running" and alive(box["vmm"]["pid"])
    assert ok(cli(host, "destroy", "r", "--grace", "1")) == "r destroyed\n"
    assert host.residue() == []
