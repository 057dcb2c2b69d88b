# SPDX-License-Identifier: Apache-2.0
"""The guest's console: what is kept, followed, sent to it, and who may see it."""
import os
import re
import socket
import signal
import threading

import pytest

import harness
from harness import TENANT_UIDS, UnixConnection, wait_for

ALICE, BOB = TENANT_UIDS["alice"], TENANT_UIDS["bob"]


class Follower:
    """GET console?follow=1, read by a thread until its end."""

    def __init__(self, host, box, since=None, uid=0, read=True):
        self.connection = UnixConnection(host.control, uid, timeout=60)
        query = "?follow=1" + (f"&since={since}" if since is not None else "")
        self.connection.request("GET", f"/v1/sandboxes/{box}/console{query}")
        self.sock = self.connection.sock  # the connection forgets it when the answer is the last
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.data, self.whole = b"", False
        self.thread = threading.Thread(target=self._read, daemon=True)
        if read:
            self.read()

    def read(self):
        self.thread.start()

    def _read(self):
        # read1() gives "" only behind the last chunk; a cut stream raises.
        while piece := self.response.read1(65536):
            self.data += piece
        self.whole = self.response.isclosed()

    def wait_end(self, timeout=20):
        self.thread.join(timeout)
        assert self.whole, f"not ended; so far {self.data[-200:]!r}"
        return self.data

    def close(self):
        # The response holds the socket, too: closing alone would not end it.
        self.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()


def counts(text):
    return [int(n) for n in re.findall(r"^COUNT (\d+)$", text, re.M)]


def test_tail(host):
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP\n")
    host.send("one", "hello\n")
    host.wait_console("one", "ECHO hello\n")
    whole = "GUEST UP\nECHO hello\n"
    for tail, expected in ((65536, whole), (19, whole[-19:]), (1, "\n"), (0, "")):
        answer = host.api("GET", f"/v1/sandboxes/one/console?tail={tail}")
        assert answer.status == 200 and answer.body.decode() == expected
        assert answer.headers["X-Console-End"] == str(len(whole))
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert host.api("GET", "/v1/sandboxes/one/console").body.decode() == whole


def test_follow_through_the_life_of_a_guest(host):
    host.create(id="one", cmdline="tick=20")
    host.wait_console("one", "COUNT 2")
    live = Follower(host, "one")
    wait_for(lambda: b"COUNT 4" in live.data, what="what the guest prints now")
    late = Follower(host, "one", since=9)
    ahead = Follower(host, "one", since=10**9)
    host.act("one", "pause")
    host.act("one", "resume")
    seen = live.data
    wait_for(lambda: live.data != seen, what="output after the resume")
    host.send("one", "reset\n")
    wait_for(lambda: live.data.count(b"GUEST UP") == 2, what="the reboot")
    host.send("one", "poweroff\n")
    host.wait_state("one", "stopped")
    kept = host.console("one").encode()
    assert kept.startswith(b"GUEST UP\n") and b"ECHO poweroff\n" in kept
    # Each got every byte from where it began, and a proper end.
    assert live.wait_end() == kept
    assert late.wait_end() == kept[9:]
    assert kept.endswith(ahead.wait_end())
    # After the end there is the rest at once.
    for since, expected in ((None, kept), (0, kept), (5, kept[5:]), (len(kept), b""),
                            (2**63, b"")):
        assert Follower(host, "one", since).wait_end() == expected
    host.destroy("one")


def test_followers_end_with_a_destroy_and_a_crash(host):
    for end in ("destroy", "kill", "shim"):
        box = host.create(id="one", cmdline="tick=10")
        followers = [Follower(host, "one") for _ in range(3)]
        wait_for(lambda: all(b"COUNT 2" in f.data for f in followers), what="output")
        if end == "destroy":
            host.destroy("one")
        else:
            os.kill(box["vmm"]["pid"] if end == "kill" else host.shim_pids("admin:one")[0],
                    signal.SIGKILL)
        for follower in followers:
            assert b"COUNT 2" in follower.wait_end()
        if end == "kill":
            assert {f.data for f in followers} == {host.console("one").encode()}
        if end != "destroy":
            host.wait_state("one", "crashed")
            host.destroy("one")
        wait_for(lambda: not host.residue(), what="the reaping of all")


def test_only_so_many_followers(host):
    host.create(id="one", cmdline="tick=10")
    followers = []
    while len(followers) < 100:
        follower = Follower(host, "one", read=False)
        if follower.status != 200:
            break
        followers.append(follower)
    assert follower.status == 429 and b"follow" in follower.response.read()
    assert 4 <= len(followers) < 100
    # One that goes away makes room, and does not disturb the others.
    followers.pop(0).close()
    wait_for(lambda: Follower(host, "one", read=False).status == 200, what="room")
    followers[0].read()
    wait_for(lambda: b"COUNT 5" in followers[0].data, what="output")
    host.destroy("one")
    followers[0].wait_end()


def test_ring_keeps_the_last_bytes(make_host):
    host = make_host(limits="console_bytes = 4096")
    host.create(id="one", cmdline="tick=0")
    live = Follower(host, "one")
    wait_for(lambda: live.data == b"GUEST UP\n", what="the guest")
    for n in range(60):
        host.send("one", f"{n:03d}" + "x" * 100 + "\n")
        wait_for(lambda: b"ECHO %03d" % n in live.data, what=f"echo {n}")
    wait_for(lambda: live.data.endswith(b"x\n"), what="the last line's end")
    assert len(live.data) == 9 + 60 * 109
    answer = host.api("GET", "/v1/sandboxes/one/console")
    assert answer.headers["X-Console-End"] == str(len(live.data))
    assert answer.body == live.data[-4096:]
    assert host.api("GET", "/v1/sandboxes/one/console?tail=4097").status == 422
    # Who comes late begins with the oldest byte that is kept.
    late = Follower(host, "one", since=10)
    wait_for(lambda: len(late.data) >= 4096, what="what is kept")
    assert late.data == live.data[-4096:]
    host.send("one", "poweroff\n")
    host.wait_state("one", "stopped")
    whole = live.wait_end()
    assert host.console("one", 4096).encode() == whole[-4096:]
    assert Follower(host, "one", since=0).wait_end() == whole[-4096:]
    host.destroy("one")


def test_console_after_a_crash_is_whole(host):
    box = host.create(id="one", cmdline="tick=5")
    host.wait_console("one", "COUNT 20")
    os.kill(box["vmm"]["pid"], signal.SIGKILL)
    host.wait_state("one", "crashed")
    wait_for(lambda: not host.shim_pids(), what="the shim's end")
    text = host.console("one")
    numbers = counts(text)
    assert text.startswith("GUEST UP\n") and numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 20
    answer = host.api("GET", "/v1/sandboxes/one/console?tail=7")
    assert answer.body.decode() == text[-7:]
    assert answer.headers["X-Console-End"] == str(len(text))


@pytest.mark.standin
def test_last_words_before_an_exit(host):
    """What lies in the pipe when the VMM ends is not lost."""
    for n in range(5):
        host.create(id="one", query="?wait=none", expect=202,
                    cmdline="tick=0 standin:at=60:stdoutflood:900 standin:at=60:exit:3")
        host.wait_state("one", "crashed")
        text = host.console("one")
        assert text.startswith("GUEST UP\n") and text.endswith(
            "FLOOD 900 of the console, by order of the test\n"), text[-300:]
        host.destroy("one")


def test_input(host):
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    # Every byte but the line ends arrives, and comes back, as it is. The guest's lines are short.
    everything = [bytes(range(1, 10)), bytes([11, 12]), bytes(range(14, 100)),
                  bytes(range(100, 200)), bytes(range(200, 256))]
    for line in everything:
        assert host.api("POST", "/v1/sandboxes/one/console", raw=line + b"\n").json == \
            {"written": len(line) + 1}

    def answered():
        body = host.api("GET", "/v1/sandboxes/one/console").body
        return body if body.endswith(b"ECHO " + everything[-1] + b"\n") else None
    body = wait_for(answered, what="the echo of all bytes")
    assert body == b"GUEST UP\n" + b"".join(b"ECHO " + line + b"\n" for line in everything)
    # A paused guest reads it later.
    host.act("one", "pause")
    host.send("one", "later\n")
    assert "later" not in host.console("one")
    host.act("one", "resume")
    host.wait_console("one", "ECHO later")
    host.send("one", "poweroff\n")
    host.wait_state("one", "stopped")
    answer = host.api("POST", "/v1/sandboxes/one/console", raw=b"x")
    assert answer.status == 409 and "stopped" in answer.json["detail"]


def test_much_input_is_not_lost(host):
    """More than a terminal holds: it waits until the guest takes it, in order."""
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    lines = [f"line {n:04d} " + "." * 80 for n in range(300)]
    data = ("\n".join(lines) + "\n").encode()
    while data:
        answer = host.api("POST", "/v1/sandboxes/one/console", raw=data[:32768])
        assert answer.status == 200, answer
        data = data[answer.json["written"]:]
    host.wait_console("one", "line 0299", 30)
    echoed = re.findall(r"^ECHO (line \d{4} \.+)$", host.console("one"), re.M)
    assert echoed == lines


@pytest.mark.standin
def test_console_can_be_read_while_the_vmm_ends(make_host):
    """Whether it comes from the shim or from the record is nothing that a reader notices."""
    host = make_host(limits="console_bytes = 1048576")

    def end():
        return int(host.api("GET", "/v1/sandboxes/one/console?tail=0").headers["X-Console-End"])
    for _ in range(3):
        box = host.create(id="one", cmdline="tick=0 " + " ".join(
            f"standin:at={at}:stdoutflood:900" for at in range(10, 310, 10)))
        wait_for(lambda: end() > 1 << 20, 30, "a full ring")
        # The end and many readers at once: as much as they read, they overlap with its collection.
        os.kill(host.daemon.pid, signal.SIGSTOP)
        os.kill(box["vmm"]["pid"], signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{box['vmm']['pid']}"), what="the VMM's end")
        readers = [UnixConnection(host.control) for _ in range(12)]
        for reader in readers:
            reader.request("GET", "/v1/sandboxes/one/console")
        os.kill(host.daemon.pid, signal.SIGCONT)
        answers = []
        for reader in readers:
            response = reader.getresponse()
            answers.append((response.status, response.read()))
            reader.close()
        host.wait_state("one", "crashed")
        assert [status for status, _ in answers] == [200] * 12, answers[-1]
        last = host.console("one", 1 << 20).encode()
        assert len(last) == 1 << 20 and all(last == body for _, body in answers)
        host.destroy("one")


@pytest.mark.standin
def test_input_that_nobody_reads(host):
    host.create(id="one", cmdline="tick=0")
    host.create(id="other", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    host.send("one", "hang\n")
    host.wait_console("one", "ECHO hang")
    taken = 0
    for _ in range(10):
        answer = host.api("POST", "/v1/sandboxes/one/console", raw=b"y" * 32768)
        if answer.status != 200:
            break
        taken += answer.json["written"]
    assert answer.status == 503 and "has not read" in answer.json["detail"], answer
    assert 65536 <= taken <= 65536 + 32768, taken
    host.send("other", "hello\n")
    host.wait_console("other", "ECHO hello")
    assert host.act("one", "pause")["state"] == "paused"
    host.destroy("one")


@pytest.mark.standin
def test_slow_follower_of_a_loud_guest(make_host):
    """It misses what ran out of the ring meanwhile, and nothing waits for it or grows."""
    host = make_host(limits="console_bytes = 65536")
    # Each flood fits into the VMM's pipe and into the ring, and between two of them even a sanitized
    # supervisor on a busy machine hands one on; all together fit into no socket.
    gap = 300 if harness.SANITIZED else 100
    host.create(id="one", cmdline="tick=0 " + " ".join(
        f"standin:at={200 + gap * n}:stdoutflood:900" for n in range(26)))
    slow = Follower(host, "one", read=False)
    quick = Follower(host, "one")
    host.create(id="other", cmdline="tick=10")
    wait_for(lambda: quick.data.count(b"FLOOD 900 ") == 26, 60, what="the floods")
    assert counts(host.console("other"))
    slow.read()
    host.send("one", "poweroff\n")
    whole, parts = quick.wait_end(), slow.wait_end()
    assert whole.startswith(b"GUEST UP\n") and parts.startswith(b"GUEST UP\n")
    assert whole.endswith(b"ECHO poweroff\n") and parts.endswith(whole[-30000:])
    assert len(parts) < len(whole)
    with open(f"/proc/{host.daemon.pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
    assert rss < (128 if harness.SANITIZED else 64) * 1024, f"cloisterd grew to {rss} KiB"


@pytest.mark.standin
@pytest.mark.parametrize("ring", [4096, 65536])
def test_tail_of_a_loud_guest(make_host, ring):
    """Each answer is one whole piece that ends where it says, however fast the guest prints."""
    host = make_host(limits=f"console_bytes = {ring}")
    host.create(id="one", cmdline="tick=1 " + " ".join(
        f"standin:at={at}:stdoutflood:300" for at in range(30, 330, 10)))
    follower = Follower(host, "one")
    tails = []
    while b"FLOOD" not in (body := host.api("GET", "/v1/sandboxes/one/console").body):
        assert len(body) <= ring
    for _ in range(150):
        tails.append(host.api("GET", "/v1/sandboxes/one/console"))
    counts_to = re.compile(rb"^COUNT (\d+)\n", re.M)
    wait_for(lambda: any(int(n) > 330 for n in counts_to.findall(
        host.api("GET", "/v1/sandboxes/one/console").body)), 30, "the end of the floods")
    host.send("one", "poweroff\n")
    host.wait_state("one", "stopped")
    last = host.api("GET", "/v1/sandboxes/one/console")
    total = int(last.headers["X-Console-End"])
    whole = follower.wait_end()
    assert whole.endswith(last.body) and b"ECHO poweroff\n" in last.body
    complete = len(whole) == total  # on a slow machine the follower has lost some
    ends = [int(t.headers["X-Console-End"]) for t in tails]
    assert ends == sorted(ends) and ends[-1] <= total
    for tail, end in zip(tails, ends):
        assert len(tail.body) <= min(ring, end)
        if complete:
            assert tail.body == whole[end - len(tail.body):end]
    assert complete or ring == 4096


def test_console_is_the_tenants_own(host):
    host.create(id="one", uid=ALICE, cmdline="tick=10")
    wait_for(lambda: "COUNT 1" in host.console("one", uid=ALICE), what="output")
    for box in ("one", "two"):
        answers = [host.api("GET", f"/v1/sandboxes/{box}/console", uid=BOB),
                   host.api("GET", f"/v1/sandboxes/{box}/console?follow=1", uid=BOB),
                   host.api("POST", f"/v1/sandboxes/{box}/console", raw=b"poweroff\n", uid=BOB)]
        assert [a.status for a in answers] == [404] * 3
        assert len({a.body for a in answers}) == 1
    admin = host.api("GET", "/v1/sandboxes/one/console?tenant=alice")
    assert b"COUNT 1" in admin.body
    assert host.get("one", uid=ALICE)["state"] == "running"
