# SPDX-License-Identifier: Apache-2.0
"""The control API: what it refuses and how it says so, who sees what, and rude clients."""
import contextlib
import json
import socket
import threading

import pytest

from harness import (CONTROL_GID, STRANGER_UID, TENANT_UIDS, UnixConnection, as_user, wait_for)

ALICE, BOB = TENANT_UIDS["alice"], TENANT_UIDS["bob"]
pytestmark = pytest.mark.standin


def is_problem(answer, status, *words):
    """An answer in the shape of API.md section 3, whose detail holds the words."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json", answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    problem = answer.json
    assert set(problem) in ({"type", "title", "status", "detail"},
                            {"type", "title", "status", "detail", "sandbox"}), problem
    assert problem["status"] == status and problem["type"].startswith("urn:cloister:error:")
    assert problem["title"] and problem["detail"]
    for word in words:
        assert word in problem["detail"], (word, problem)
    return problem


# ------------------------------------------------------------------ fields of create

LONG = "a" * 64
WRONG_FIELDS = [
    ("id", [None, 1, True, [], {}, "", "A", "-a", ".a", "a..b", "a/b", "a b", "a\n", "ä", LONG,
            "../a", "a:b"]),
    ("kernel", [None, 1, False, [], {}, "", "Tiny", "../tiny", "a/b", "..", LONG, "no-such-image"]),
    ("initramfs", [1, True, [], {}, "", "A", "../x", LONG, "no-such-image"]),
    ("cmdline", [None, 1, True, [], {}, "a\nb", "a\tb", "\x7f", "ä", "x" * 2048]),
    ("vcpus", [None, "1", True, [], {}, 0, -1, 255, 4294967297, 2**53]),
    ("memory_mib", [None, "32", True, [], {}, 0, 15, -32, 4194305, 2**32 + 32, 2**63]),
    ("balloon", [None, 0, 1, "true", [], {}]),
    ("labels", [None, 1, "a=b", [], True, {"A": "b"}, {"": "b"}, {LONG: "b"}, {"a": 1},
                {"a": None}, {"a": ["b"]}, {"a": "x" * 129}, {"a": "b\n"}, {"a": "ä"},
                {f"k{n}": "v" for n in range(33)}]),
    ("max_vcpus", ["2", 0, 255, True]), ("max_memory_mib", ["160", 16, 64, 161, 4194305, [], True]),
    # Known, but for later versions: never silently ignored.
    ("disks", [[{"image": "a"}], {}, "a"]),
    ("network", [{}, "on", True]), ("vsock", ["on", 1]), ("template", ["t", {}]),
    ("ttl_s", [1, "1"]), ("wait_for", ["ready", {}]),
    ("restart", ["sometimes", True, 1, [], {}, {"policy": None}, {"policy": "always", "attempts": -1},
                 {"policy": "always", "backoff_ms": 99}, {"policy": "always", "max": 1},
                 {"policy": "always", "backoff_ms": 500, "backoff_max_ms": 400}]),
    ("memory_restore", ["map", "copy", "ondemand", "fast", 1, True]),
    # Unknown.
    ("kernal", ["tiny"]), ("Id", ["a"]), ("state", ["running"]), ("tenant", ["alice"]),
]


def test_wrong_fields_of_create(host):
    for field, values in WRONG_FIELDS:
        for value in values:
            spec = {"kernel": "tiny", "memory_mib": 32, field: value}
            answer = host.api("POST", "/v1/sandboxes", spec)
            problem = is_problem(answer, 422, field)
            assert problem["type"] == "urn:cloister:error:invalid", (field, value)
            # A detail is one line of printable text, whatever was sent.
            assert all(" " <= c <= "~" for c in problem["detail"]), problem
    is_problem(host.api("POST", "/v1/sandboxes", {"memory_mib": 32}), 422, "kernel", "missing")
    is_problem(host.api("POST", "/v1/sandboxes", {}), 422, "kernel", "missing")
    assert host.list() == [] and host.residue() == []


def test_fields_at_their_limits(host):
    host.create(id="a" * 63, cmdline="tick=0 " + "x" * 2040, memory_mib=16, balloon=False,
                labels={"k" * 63: "v" * 128, **{f"k{n}": "" for n in range(31)}},
                initramfs=None, disks=[], network=None, vsock=False, template=None, ttl_s=None,
                restart=None, memory_restore="auto")
    box = host.get("a" * 63)
    assert len(box["cmdline"]) == 2047 and len(box["labels"]) == 32 and box["memory_mib"] == 16
    assert box["balloon"] is False and box["vcpus"] == 1
    given = host.create(cmdline="tick=0")
    other = host.create(cmdline="tick=0")
    assert given["id"] != other["id"] and given["id"].startswith("sb-")
    host.create(id="many", vcpus=254, cmdline="tick=0")
    answer = host.api("POST", "/v1/sandboxes", {"id": "many", "kernel": "tiny"})
    assert is_problem(answer, 409, "many")["type"] == "urn:cloister:error:conflict"


def test_bodies_that_are_not_json(host):
    good = b'{"kernel":"tiny","memory_mib":32}'
    bad = [b"", b"{", b"x", b"[]", b'"a"', b"1", b"null", good + b"x", good + good, good[:-1],
           b'{"kernel":"tiny",}', b"{'kernel':'tiny'}", b'{"kernel":"tiny","kernel":"tiny"}',
           b'{"kernel":"ti\\u0000ny"}', b'{"kernel":"t\xff"}', b'{"kernel":"t\xed\xa0\x80"}',
           b'{"kernel":"t\ny"}', b'{"memory_mib":32.5}', b'{"memory_mib":3e1}',
           b'{"memory_mib":032}', b'{"memory_mib":NaN}', b'{"memory_mib":0x20}', b"\0" + good,
           good + b"\0", b"\xef\xbb\xbf" + good, b"[" * 5000, b'{"a":' * 5000]
    for raw in bad:
        is_problem(host.api("POST", "/v1/sandboxes", raw=raw), 400)
    assert host.list() == []
    # Blanks around are fine, and any content type.
    answer = host.api("POST", "/v1/sandboxes", raw=b" \r\n" + good + b"\n",
                      headers={"Content-Type": "text/nonsense"})
    assert answer.status == 201, answer
    box = answer.json["id"]
    is_problem(host.api("POST", f"/v1/sandboxes/{box}/pause", raw=b"x"), 400)
    is_problem(host.api("POST", f"/v1/sandboxes/{box}/pause", {"force": True}), 422, "force")
    is_problem(host.api("DELETE", f"/v1/sandboxes/{box}", {"force": True}), 422, "force")
    assert host.api("POST", f"/v1/sandboxes/{box}/pause", {}).status == 200


def test_bodies_too_large(host):
    pad = b" " * (64 * 1024)
    is_problem(host.api("POST", "/v1/sandboxes", raw=b"{}" + pad), 413, "65536")
    # Beyond twice that not even a body is read.
    connection = UnixConnection(host.control)
    connection.putrequest("POST", "/v1/sandboxes")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    host.create(id="one", cmdline="tick=0")
    is_problem(host.api("POST", "/v1/sandboxes/one/console", raw=b"x" * 32769), 413)
    is_problem(host.api("POST", "/v1/sandboxes/one/console", raw=b""), 422)


# ------------------------------------------------------------------ paths, methods, queries


def test_paths_and_methods(host):
    host.create(id="one", cmdline="tick=0")
    for path in ("/", "/v1", "/v1/", "/v2/info", "/v1/infos", "/v1/info/", "/v1/sandboxes/",
                 "/v1/sandboxes//pause", "/v1/sandboxes/one/", "/v1/sandboxes/one/fly",
                 "/v1/sandboxes/one/pause/x", "//v1/info", "/V1/info", "/v1/sandboxes/one%2fpause"):
        is_problem(host.api("GET", path), 404)
    for path, allowed in (("/v1/info", "GET"), ("/v1/sandboxes", "GET, POST"),
                          ("/v1/sandboxes/one", "GET, DELETE"), ("/v1/events", "GET"),
                          ("/v1/sandboxes/one/pause", "POST"),
                          ("/v1/sandboxes/one/console", "GET, POST")):
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"):
            if method not in allowed:
                answer = host.api(method, path)
                assert answer.headers["Allow"] == allowed, (method, path, answer)
                is_problem(answer, 405, allowed)
    head = host.api("HEAD", "/v1/info")
    assert head.status == 405 and head.body == b""
    for box in ("nope", "One", "..", "a" * 64, "a" * 300, "%00", "%2e%2e", "one%00"):
        is_problem(host.api("GET", f"/v1/sandboxes/{box}"), 404)
    for action in ("pause", "resume", "power-button"):
        is_problem(host.api("POST", f"/v1/sandboxes/nope/{action}"), 404)
    is_problem(host.api("DELETE", "/v1/sandboxes/nope"), 404)


def test_queries(host):
    host.create(id="one", cmdline="tick=0")
    for method, path, status, word in (
            ("GET", "/v1/info?x=1", 400, "x"),
            ("GET", "/v1/sandboxes?State=running", 400, "State"),
            ("GET", "/v1/sandboxes?state=running&state=paused", 400, "twice"),
            ("GET", "/v1/sandboxes?state=asleep", 422, "asleep"),
            ("GET", "/v1/sandboxes?state=none", 422, "none"),
            ("GET", "/v1/sandboxes?label=a", 422, "label"),
            ("GET", "/v1/sandboxes?" + "q" * 70 + "=1", 400, "unknown"),
            ("GET", "/v1/sandboxes?,state,=1", 400, "unknown"),
            ("POST", "/v1/sandboxes?wait=", 422, "wait"),
            ("POST", "/v1/sandboxes?wait=all", 422, "wait"),
            ("DELETE", "/v1/sandboxes/one?grace_s=-1", 422, "grace_s"),
            ("DELETE", "/v1/sandboxes/one?grace_s=3601", 422, "grace_s"),
            ("DELETE", "/v1/sandboxes/one?grace_s=1.5", 422, "grace_s"),
            ("DELETE", "/v1/sandboxes/one?grace_s=", 422, "grace_s"),
            ("DELETE", "/v1/sandboxes/one?grace=1", 400, "grace"),
            ("GET", "/v1/sandboxes/one/console?tail=x", 422, "tail"),
            ("GET", "/v1/sandboxes/one/console?tail=65537", 422, "tail"),
            ("GET", "/v1/sandboxes/one/console?since=1", 422, "since"),
            ("GET", "/v1/sandboxes/one/console?follow=2", 422, "follow"),
            ("GET", "/v1/sandboxes/one/console?follow=1&tail=1", 422, "tail"),
            ("GET", "/v1/events?since=x", 422, "since"),
            ("GET", "/v1/events?since=-1", 422, "since"),
            ("GET", "/v1/sandboxes?tenant=No+Such", 422, "tenant")):
        is_problem(host.api(method, path), status, word)
    assert host.get("one")["state"] == "running"


def test_list_filters(host):
    host.create(id="a", cmdline="tick=0", labels={"app": "web", "tier": "x=y"})
    host.create(id="b", cmdline="tick=0", labels={"app": "web"})
    host.create(id="c", cmdline="tick=0")
    host.act("b", "pause")

    def ids(query):
        answer = host.api("GET", "/v1/sandboxes" + query)
        assert answer.status == 200, answer
        return [box["id"] for box in answer.json["sandboxes"]]
    assert sorted(ids("")) == ["a", "b", "c"]
    assert ids("?state=paused") == ["b"] and sorted(ids("?state=running")) == ["a", "c"]
    assert ids("?state=failed") == []
    assert sorted(ids("?label=app=web")) == ["a", "b"]
    assert ids("?label=app=web&label=tier=x%3Dy") == ["a"]
    assert ids("?label=app=web&state=paused") == ["b"]
    assert ids("?label=app=we") == [] == ids("?label=ap=web") == ids("?label=app=")
    whole = {box["id"]: box for box in host.list()}
    assert all(host.get(name) == whole[name] for name in "abc")


def test_info(host):
    info = host.api("GET", "/v1/info").json
    assert info["api"] == "v1" and info["vmm"]["version"].startswith("53.")
    assert info["you"] == {"tenant": "admin", "admin": True}
    assert info["sandboxes"]["count"] == 0 and info["uptime_s"] >= 0
    host.create(uid=ALICE, cmdline="tick=0")
    info = host.api("GET", "/v1/info", uid=ALICE).json
    assert info["you"] == {"tenant": "alice", "admin": False}
    # How many others there are is not for a tenant to know; here it is its own one.
    assert info["sandboxes"]["max"] == host.api("GET", "/v1/info").json["sandboxes"]["max"] == 511


# ------------------------------------------------------------------ tenants


def test_tenants_see_their_own_only(host):
    host.create(id="one", uid=ALICE, cmdline="tick=0")
    host.create(id="own", uid=BOB, cmdline="tick=0")
    host.create(id="root", cmdline="tick=0")
    calls = [("GET", "{}"), ("POST", "{}/pause"), ("POST", "{}/resume"),
             ("POST", "{}/power-button"), ("DELETE", "{}"), ("GET", "{}/console"),
             ("GET", "{}/console?follow=1")]
    for method, path in calls:
        foreign = host.api(method, "/v1/sandboxes/" + path.format("one"), uid=BOB)
        nowhere = host.api(method, "/v1/sandboxes/" + path.format("two"), uid=BOB)
        is_problem(foreign, 404)
        assert foreign.body == nowhere.body, "a foreign id must look like one that is not there"
        drop = ("Date",)
        assert {k: v for k, v in foreign.headers.items() if k not in drop} == \
            {k: v for k, v in nowhere.headers.items() if k not in drop}
    foreign = host.api("POST", "/v1/sandboxes/one/console", raw=b"x", uid=BOB)
    assert foreign.body == host.api("POST", "/v1/sandboxes/two/console", raw=b"x", uid=BOB).body
    listed = host.api("GET", "/v1/sandboxes", uid=BOB).json["sandboxes"]
    assert [b["id"] for b in listed] == ["own"]
    # The same id is free for others.
    host.create(id="one", uid=BOB, cmdline="tick=0")
    assert host.get("one", uid=ALICE)["tenant"] == "alice"
    assert host.get("one", uid=BOB)["tenant"] == "bob"
    # Nor may a tenant speak for another one.
    for tenant in ("alice", "admin", "nobody", "No"):
        is_problem(host.api("GET", f"/v1/sandboxes?tenant={tenant}", uid=BOB), 403)
    assert host.api("GET", "/v1/sandboxes/one?tenant=bob", uid=BOB).status == 200
    # The admin sees all, and names whose it means.
    assert sorted((b["tenant"], b["id"]) for b in host.list()) == \
        [("admin", "root"), ("alice", "one"), ("bob", "one"), ("bob", "own")]
    assert [b["id"] for b in host.list("alice")] == ["one"]
    is_problem(host.api("GET", "/v1/sandboxes/one"), 404, "tenant=")
    host.destroy("one", tenant="alice")
    assert host.api("GET", "/v1/sandboxes/one", uid=ALICE).status == 404
    assert host.get("one", uid=BOB)["state"] == "running"
    made = host.create(id="gift", query="?tenant=alice", cmdline="tick=0")
    assert made["tenant"] == "alice" and host.get("gift", uid=ALICE) == made
    answer = host.api("POST", "/v1/sandboxes?tenant=carol", {"kernel": "tiny"})
    is_problem(answer, 422, "carol")


def test_strangers(host):
    for method, path in (("GET", "/v1/info"), ("GET", "/v1/sandboxes"), ("POST", "/v1/sandboxes"),
                         ("GET", "/v1/events"), ("GET", "/nowhere"), ("DELETE", "/v1/sandboxes/a")):
        problem = is_problem(host.api(method, path, uid=STRANGER_UID), 403, str(STRANGER_UID))
        assert problem["type"] == "urn:cloister:error:forbidden"
    # Without the control group not even that.
    with pytest.raises(PermissionError):
        with as_user(STRANGER_UID), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(host.control)


def test_quotas(make_host):
    host = make_host(tenants=False, limits="max_sandboxes = 5", config=f"""
[tenant alice]
users = {ALICE}
max_sandboxes = 2
[tenant bob]
users = {BOB}
max_vcpus = 3
max_memory_mib = 100
""")

    def create(uid, **spec):
        return host.api("POST", "/v1/sandboxes",
                        {"kernel": "tiny", "memory_mib": 32, "cmdline": "tick=0", **spec}, uid=uid)
    assert [create(ALICE).status for _ in range(2)] == [201, 201]
    problem = is_problem(create(ALICE), 429, "max_sandboxes", "2 used", "limit is 2")
    assert problem["type"] == "urn:cloister:error:quota"
    is_problem(create(BOB, memory_mib=101), 429, "max_memory_mib", "0 used", "limit is 100")
    is_problem(create(BOB, vcpus=4), 429, "max_vcpus", "limit is 3")
    one = create(BOB, vcpus=2, memory_mib=64)
    assert one.status == 201
    is_problem(create(BOB, vcpus=2), 429, "max_vcpus", "2 used")
    is_problem(create(BOB, memory_mib=37), 429, "max_memory_mib", "64 used")
    assert create(BOB, vcpus=1, memory_mib=36).status == 201
    # What ended uses neither, only its place; what was destroyed uses nothing.
    assert host.destroy(one.json["id"], tenant="bob")["vcpus"] == 2
    assert create(BOB, vcpus=2, memory_mib=64, cmdline="do=poweroff", id="off").status == 201
    wait_for(lambda: host.get("off", uid=BOB)["state"] == "stopped", what="the guest's end")
    assert create(0).status == 201
    is_problem(create(0), 429, "host's max_sandboxes", "5 used")
    is_problem(create(BOB), 429, "host's max_sandboxes")
    host.destroy("off", tenant="bob")
    assert create(BOB, vcpus=2, memory_mib=64).status == 201


def test_quota_holds_for_creates_at_once(make_host):
    host = make_host(tenants=False, config=f"[tenant alice]\nusers = {ALICE}\nmax_vcpus = 4\n")
    statuses = []

    def create():
        statuses.append(host.api("POST", "/v1/sandboxes", {
            "kernel": "tiny", "memory_mib": 32, "cmdline": "tick=0"}, uid=ALICE).status)
    threads = [threading.Thread(target=create) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [201] * 4 + [429] * 8


# ------------------------------------------------------------------ rude clients


def raw_socket(host, uid=0):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(10)
    if uid:
        with as_user(uid, CONTROL_GID):
            sock.connect(host.control)
    else:
        sock.connect(host.control)
    return sock


def read_all(sock):
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except (ConnectionResetError, BrokenPipeError):
        pass
    return data


def test_garbage_and_half_requests(host):
    request = b"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n" \
              b'{"kernel":"tiny","memory_mib":32}'
    # Cut anywhere, nothing comes of it.
    for cut in list(range(0, len(request), 7)) + [len(request) - 1]:
        with raw_socket(host, ALICE) as sock:
            sock.sendall(request[:cut])
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
    for junk in (b"\0" * 4000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 500,
                 b"GET /v1/info HTTP/1.1\r\nA" + b"a" * 40000 + b": b\r\n\r\n",
                 b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n\r\n",
                 b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET http://[::1 HTTP/1.1\r\n\r\n",
                 b"POST /v1/sandboxes HTTP/1.1\r\nContent-Length: -5\r\n\r\n{}",
                 b"POST /v1/sandboxes HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
                 b"POST /v1/sandboxes HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"BREW /v1/info HTTP/1.1\r\n\r\n"):
        with raw_socket(host, ALICE) as sock:
            try:
                sock.sendall(junk)
                sock.shutdown(socket.SHUT_WR)
            except BrokenPipeError:
                pass
            answer = read_all(sock)
            assert b" 200 " not in answer[:16] and b" 201 " not in answer[:16], (junk[:60], answer)
    assert host.list() == []
    # Whole requests in small pieces are as good as any other.
    with raw_socket(host, ALICE) as sock:
        for i in range(len(request)):
            sock.sendall(request[i:i + 1])
        assert sock.recv(64).startswith(b"HTTP/1.1 201 ")
    # A client that is gone before its answer gets its sandbox all the same.
    with raw_socket(host, BOB) as sock:
        sock.sendall(request)
    wait_for(lambda: [b["state"] for b in host.list("bob")] == ["running"], what="bob's sandbox")


def test_chunked_body(host):
    with raw_socket(host, ALICE) as sock:
        sock.sendall(b"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                     b'11\r\n{"kernel":"tiny",\r\n10\r\n"memory_mib":32}\r\n0\r\n\r\n')
        assert sock.recv(64).startswith(b"HTTP/1.1 201 ")


def test_requests_in_a_row_on_one_connection(host):
    connection = UnixConnection(host.control, ALICE)
    connection.request("POST", "/v1/sandboxes", json.dumps(
        {"id": "one", "kernel": "tiny", "memory_mib": 32, "cmdline": "tick=0"}))
    assert connection.getresponse().read() and connection.sock is not None
    sock = connection.sock
    for method, path, status in (("POST", "/v1/sandboxes/one/pause", 200),
                                 ("POST", "/v1/sandboxes/one/pause", 409),
                                 ("GET", "/v1/sandboxes/nope", 404),
                                 ("POST", "/v1/sandboxes/one/resume", 200),
                                 ("DELETE", "/v1/sandboxes/one", 200)):
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        assert response.status == status, (method, path, response.status)
        assert connection.sock is sock, "the connection was not kept"
    connection.close()


def test_pipelined_requests(host):
    """All at once: answered in order, each by its own answer, also where one has to wait."""
    body = b'{"id":"one","kernel":"tiny","memory_mib":32,"cmdline":"tick=0"}'
    requests = [
        (b"POST /v1/sandboxes HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), 201),
        (b"POST /v1/sandboxes/one/pause HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200),
        (b"GET /v1/sandboxes/one HTTP/1.1\r\n\r\n", 200),
        (b"GET /v1/nowhere HTTP/1.1\r\n\r\n", 404),
        (b"DELETE /v1/sandboxes/one HTTP/1.1\r\n\r\n", 200),
        (b"GET /v1/sandboxes/one HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
    ]
    with raw_socket(host, ALICE) as sock:
        sock.sendall(b"".join(r for r, _ in requests))
        stream = sock.makefile("rb")
        for _, status in requests:
            line = stream.readline()
            assert line.startswith(b"HTTP/1.1 %d " % status), (line, status)
            length = 0
            while (header := stream.readline().strip()):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            assert stream.read(length).rstrip().endswith(b"}")
        assert stream.read() == b""


def test_idle_connections_of_one_disturb_nobody_else(host):
    host.create(id="own", uid=BOB, cmdline="tick=0")
    idle = []
    try:
        for n in range(500):
            sock = raw_socket(host, ALICE)
            if n % 2:
                with contextlib.suppress(BrokenPipeError):  # turned away already
                    sock.sendall(b"GET /v1/in")
            idle.append(sock)
            if n % 100 == 99:
                assert host.get("own", uid=BOB)["state"] == "running"
        # One uid has so many and no more; the others were told so.
        refused = 0
        for sock in idle:
            sock.settimeout(0.001)
            try:
                data = sock.recv(4096)
                refused += data.startswith(b"HTTP/1.1 503 ") and b"too many connections" in data
                sock.close()
            except socket.timeout:
                pass
            except ConnectionResetError:
                refused += 1
        assert refused == 500 - 128, refused
        answer = host.api("POST", "/v1/sandboxes/own/pause", uid=BOB)
        assert answer.status == 200
        assert host.create(id="new", uid=BOB, cmdline="tick=0")["state"] == "running"
        # Even the idle ones' own requests are still served, on the connections that it has.
        kept = next(s for n, s in enumerate(idle) if s.fileno() >= 0 and n % 2 == 0)
        kept.settimeout(10)
        kept.sendall(b"GET /v1/info HTTP/1.1\r\n\r\n")
        assert kept.recv(64).startswith(b"HTTP/1.1 200 ")
    finally:
        for sock in idle:
            sock.close()
    # Its share is free again when they have gone.
    wait_for(lambda: host.api("GET", "/v1/info", uid=ALICE).status == 200, what="a free place")


def test_slow_headers_hold_up_nobody(host):
    with raw_socket(host, ALICE) as slow:
        slow.sendall(b"GET /v1/info HTTP/1.1\r\n")
        for n in range(20):
            slow.sendall(b"X-Slow-%d: x\r\n" % n)
            assert host.api("GET", "/v1/info", uid=BOB).status == 200
        slow.sendall(b"\r\n")
        assert slow.recv(64).startswith(b"HTTP/1.1 200 ")
    # Nor does one that never takes its answers: they pile up neither here nor there.
    with raw_socket(host, ALICE) as deaf:
        deaf.settimeout(0.2)
        try:
            for _ in range(200):
                deaf.sendall(b"GET /v1/sandboxes HTTP/1.1\r\n\r\n" * 100)
        except (socket.timeout, ConnectionError):
            pass
        assert host.api("GET", "/v1/info", uid=BOB).status == 200
        with open(f"/proc/{host.daemon.pid}/status") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
        assert rss < 64 * 1024, f"{rss} KiB"
