# SPDX-License-Identifier: Apache-2.0
"""Networks of sandboxes in a world of the tests' own, on the stand-in: what takes many sandboxes.

The Linux guest, which has a network stack of its own, is in test_linux_network.py.
"""
import contextlib
import os
import select
import signal
import socket
import time

import pytest

import harness
from harness import alive, wait_for
from netguest import StandinGuest, check_egress, check_ingress, connects
from networld import (GATEWAY, GUEST, HOST, IN_POOL, METADATA, PORT, PORTS, PRIVATE, PUBLIC,
                      RESOLVER, SO_RCVBUFFORCE, UDP, NetHost, World, ipaddress)
from test_cli import cli
from test_disk_sets import at_once

pytestmark = pytest.mark.standin
HTTP = {"http": {"port": 80, "path": "/health"}}


@pytest.fixture
def make_net(vmm):
    """Makes a host in a world of its own; both are closed, and checked for residue, after it."""
    made = []

    def make(start=True, world=None, **options):
        world = world or World()
        made.append(world)
        host = NetHost(vmm[0], vmm[1], world, **options)
        made.append(host)
        return host.start() if start else host

    yield make
    errors = []
    for thing in reversed(made):
        try:
            thing.close()
        except Exception as error:  # each is closed, whatever another one says
            errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def net(make_net):
    return make_net()


def ports(*numbers, **more):
    return [{"guest": n, **more} for n in numbers]


def address_of(host, box):
    return host.get(box)["network"]["address"]


def create(host, box, egress="none", expect=201, wait_for=HTTP, **network):
    return host.create(id=box, expect=expect, cmdline="tick=0", wait_for=wait_for,
                       network={"egress": egress, **network})


def problem(host, expect, **spec):
    return host.create(expect=expect, **spec)["detail"]


# ------------------------------------------------------------------ the host

def test_forwarding_is_the_administrators_to_switch_on(make_net):
    world = World(forwarding=False)
    host = make_net(world=world, start=False)
    host.daemon = host.spawn()
    assert host.daemon.wait(20) != 0
    assert "net.ipv4.conf.up0.forwarding" in host.log(), host.log()
    with world.host, open("/proc/sys/net/ipv4/conf/up0/forwarding") as f:
        assert f.read() == "0\n"
    world.forward("up0")
    host.start()
    create(host, "a")


def test_uplink_that_is_not_there_is_named(make_net):
    world = World()
    host = make_net(world=world, start=False,
                    config=world.config().replace("uplink = up0", "uplink = up7"))
    host.daemon = host.spawn()
    assert host.daemon.wait(20) != 0
    assert "up7" in host.log(), host.log()


def test_other_rules_of_the_host_are_left_alone(net):
    world = net.world
    world.host.run("nft", "add table inet others; add chain inet others c "
                   "{ type filter hook forward priority 10; }; "
                   "add rule inet others c ip daddr 192.0.2.1 counter drop")
    others = world.host.run("nft", "list", "table", "inet", "others")
    names = world.host.run("nft", "list", "tables").split("\n")
    assert sorted(n.split()[-1] for n in names if n) == sorted(
        ["others", f"cloister-{net.instance()}"])
    rules = world.host.run("nft", "list", "table", "inet", f"cloister-{net.instance()}")
    for i in range(3):
        create(net, f"a{i}", ports=ports(80))
    # No rule of the host belongs to a sandbox.
    assert world.host.run("nft", "list", "table", "inet", f"cloister-{net.instance()}") == rules
    assert world.host.run("nft", "list", "table", "inet", "others") == others


def test_rules_that_somebody_flushes_are_made_again(net):
    """As a firewall that is reloaded does."""
    world, table = net.world, f"cloister-{net.instance()}"
    create(net, "a", "internet", ports=ports(80, host=PORTS[0]))
    world.host.run("nft", "flush", "ruleset")
    wait_for(lambda: table in world.host.run("nft", "list", "tables"), 10, "the table")
    guest = StandinGuest(net, "a")
    check_egress(world, {guest: [PUBLIC, RESOLVER]})
    assert world.outside.get(HOST, PORTS[0])[0] == 200
    create(net, "b", "internet")


def test_client_options(net):
    done = cli(net, "create", "--id", "a", "--kernel", "tiny", "--memory", "32", "--cmdline",
               "tick=0", "--network", "list", "--allow", "10.5.5.5/32", "--port",
               f"{PORTS[0]}:80", "--port", "7/udp", "--rate", "rx=50,tx=60", "--wait",
               "http=80/health,timeout=20")
    assert done.returncode == 0, done
    network = net.get("a")["network"]
    assert network["egress"] == "list" and network["allow"] == ["10.5.5.5/32"]
    assert network["ports"] == [{"guest": 80, "proto": "tcp", "host": PORTS[0]},
                                {"guest": 7, "proto": "udp"}]
    assert network["rate"] == {"rx_mbps": 50, "tx_mbps": 60}
    assert network["address"] in cli(net, "inspect", "a").stdout
    assert net.world.outside.get(HOST, PORTS[0])[0] == 200
    check_egress(net.world, {StandinGuest(net, "a"): ["10.5.5.5"]})


# ------------------------------------------------------------------ flows

LISTED = [PRIVATE[0], "203.0.113.9"]
POLICIES = {
    "none": ({}, []),
    "internet": ({}, [PUBLIC, RESOLVER]),
    # What no policy may allow stays shut, whatever the list says.
    "list": ({"allow": [LISTED[0] + "/32", "203.0.113.0/24", "169.254.0.0/16", "100.96.0.0/16",
                        "127.0.0.0/8", "10.177.0.0/30", "8.9.0.0/24", "224.0.0.0/4"]}, LISTED),
}


def test_each_flow_of_each_policy(net):
    create(net, "other", ports=ports(80))
    other, others = StandinGuest(net, "other"), [address_of(net, "other")]
    guests, host_ports = {}, dict(zip(POLICIES, PORTS[::2]))
    for egress, (more, allowed) in POLICIES.items():
        box = create(net, egress, egress, **more, ports=[
            *ports(80, host=host_ports[egress]), *ports(StandinGuest.udp_port, proto="udp")])
        assert box["network"]["egress"] == egress
        guests[StandinGuest(net, egress)] = allowed
    check_egress(net.world, guests, others)
    assert not other.heard()
    for guest in guests:
        # The other's forwarded port is for the world, not for a neighbour.
        assert guest.tcp(others, 80) == set()
    at_once([lambda g=g: check_ingress(net.world, g, host_ports[g.box]) for g in guests])
    # They have not become more open by what came in.
    check_egress(net.world, guests, others)


def test_names_go_to_the_resolver_if_the_policy_lets_them(net):
    resolver = {"allow": [RESOLVER + "/32"]}
    asks = {"no": ("none", {}, 0), "internet": ("internet", {}, 1), "list": ("list", resolver, 1),
            "other": ("list", {"allow": [PUBLIC + "/32"]}, 0)}
    for box, (egress, more, want) in asks.items():
        create(net, box, egress, **more)
        net.world.clear()
        guest = StandinGuest(net, box)
        guest.udp([GATEWAY], 53)
        if want:
            wait_for(lambda g=guest: (GATEWAY, 53) in g.heard(), 5, "the resolver's answer")
        assert len(net.world.peers["outside"].got(to=RESOLVER)) == want, box


def test_senders_that_they_are_not(net):
    create(net, "other", "internet")
    create(net, "box", "internet", ports=ports(StandinGuest.udp_port, proto="udp"))
    world, guest = net.world, StandinGuest(net, "box")
    address, other = address_of(net, "box"), address_of(net, "other")
    world.clear()
    sources = ["10.177.0.3", GATEWAY, "127.0.0.1", "0.0.0.0", address, other, HOST, PUBLIC,
               METADATA]
    net.send("box", "".join(f"spoof {s} {PUBLIC} {PORT}\n" for s in sources))
    guest.udp([PUBLIC])
    wait_for(lambda: world.peers["outside"].heard, 5, "its own datagram")
    assert len(world.peers["outside"].heard) == 1, world.peers["outside"].heard
    assert world.wires["host"].count(protocol=UDP, to=PUBLIC, outgoing=False) == 1
    # And from outside: special ones, the pool's, the guests' own net.
    for source in [GUEST, GATEWAY, "127.0.0.1", METADATA, other, address, IN_POOL, "0.0.0.0",
                   "224.0.0.1"]:
        world.outside.raw(source, address, StandinGuest.udp_port, "spoof")
    before = guest.heard()
    world.outside.raw("8.8.0.2", address, StandinGuest.udp_port, "own")
    wait_for(lambda: len(guest.heard()) > len(before), 5, "the datagram")
    assert [a for a, _ in guest.heard()[-1:]] == ["8.8.0.2"]
    assert {a for a, _ in guest.heard()} == {PUBLIC, "8.8.0.2"}, guest.heard()


def test_no_network_has_no_device(net):
    box = net.create(id="none", cmdline="tick=0", network=None)
    assert box["network"] is None
    net.send("none", f"send {PUBLIC} {PORT}\n")
    net.wait_console("none", "NO NET")
    assert not taps(box["vmm"]["pid"]) and not net.world.links()
    pid = create(net, "with")["vmm"]["pid"]
    [shim] = net.shim_pids("admin:with")
    assert net_devices(shim) == {"tap", "uplink"}
    # The VMM has the tap's descriptor, sees no device at all, and cannot make another.
    assert set(taps(pid)) == {"tap"} and not net_devices(pid)
    assert sorted(os.listdir(f"/proc/{pid}/root/dev")) == ["kvm", "null", "urandom", "userfaultfd"]


def taps(pid):
    """The interfaces behind the descriptors of a process (proc(5), of /dev/net/tun)."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}") as f:
            found += [line.split()[1] for line in f if line.startswith("iff:")]
    return found


def net_devices(pid):
    """That a process sees in its network namespace."""
    with open(f"/proc/{pid}/net/dev") as f:
        return {line.split(":")[0].strip() for line in f if ":" in line} - {"lo"}


def flood(namespace, address, seconds, mbps=8, size=1400):
    """Datagrams at a steady pace to the guest's echo port; gives when each answer came."""
    with namespace:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    s.setblocking(False)
    gap, came = size * 8 / (mbps * 1e6), []
    start = time.monotonic()
    due = start
    with s:
        while (now := time.monotonic()) < start + seconds:
            if now >= due:
                s.sendto(bytes(size), (address, StandinGuest.udp_port))
                due += gap
            if select.select([s], [], [], max(0, min(due, start + seconds) - now))[0]:
                s.recv(2048)
                came.append(time.monotonic() - start)
    return came


def test_rates_hold(net):
    """Each is offered four times the higher one; its bucket is empty after less than 0.3 s."""
    seconds, empty, got = 1.2, 0.4, {}
    ways = [(d, m) for d in ("rx_mbps", "tx_mbps") for m in (1, 2)]
    for direction, mbps in ways:
        create(net, f"{direction[:2]}{mbps}", rate={direction: mbps},
               ports=ports(StandinGuest.udp_port, proto="udp"))

    def measure(direction, mbps):
        came = flood(net.world.outside, address_of(net, f"{direction[:2]}{mbps}"), seconds)
        bits = len([t for t in came if t >= empty]) * (1400 + 42) * 8
        got[direction, mbps] = bits / (seconds - empty) / 1e6

    at_once([lambda w=w: measure(*w) for w in ways])
    for direction in ("rx_mbps", "tx_mbps"):
        assert 0.85 < got[direction, 1] < 1.15, got
        assert 1.7 < got[direction, 2] / got[direction, 1] < 2.3, got


# ------------------------------------------------------------------ readiness

def test_wait_for_each_kind(net):
    network = {"egress": "none"}
    kinds = [
        ({"tcp": 80}, {"cmdline": "tick=0 net=300", "network": network}),
        (HTTP, {"cmdline": "tick=0 net=300", "network": network}),
        ({"http": {"port": 80, "path": "/none", "status": 404}},
         {"cmdline": "tick=0 net=300", "network": network}),
        ({"vsock": 1024}, {"cmdline": "tick=0 vsock=300", "vsock": True}),
        ({"console": "COUNT 4"}, {"cmdline": "tick=100"}),
    ]
    boxes = at_once([lambda k=k, s=s: net.create(wait_for=k, **s) for k, s in kinds])
    for (kind, _), box in zip(kinds, boxes):
        assert box["timings_us"]["ready_us"] > 150_000, (kind, box["timings_us"])


def test_what_does_not_get_ready_in_time_is_gone(net):
    network = {"egress": "internet", "ports": ports(80, host=PORTS[0])}
    kinds = {"tcp": {"tcp": 81}, "http": {"http": {"port": 80, "path": "/none"}},
             "vsock": {"vsock": 77}, "console": {"console": "never"}}

    def fail(name, kind):
        spec = {"network": network} if name in ("tcp",) else {"network": {"egress": "none"}}
        detail = problem(net, 504, id=name, cmdline="tick=0", vsock=True,
                         wait_for={**kind, "timeout_s": 1}, **spec)
        assert name in detail, detail

    at_once([lambda n=n, k=k: fail(n, k) for n, k in kinds.items()])
    assert not net.list()
    assert not net.net_residue() and not net.residue()
    # What they had can be had again.
    net.create(id="tcp", network=network, cmdline="tick=0", wait_for=HTTP)


# ------------------------------------------------------------------ addresses and ports

def small(bits=30):
    """A world whose pool has two addresses to give, or more."""
    return World(pool=ipaddress.ip_network(f"100.96.0.0/{bits}"))


def test_addresses_are_had_until_nothing_is_left(make_net):
    world = small()
    host = make_net(world=world, config=world.config(ports=None))
    for box in "ab":
        create(host, box)
    used = {address_of(host, box) for box in "ab"}
    assert used == {"100.96.0.1", "100.96.0.2"}
    assert "pool" in create(host, "c", expect=429)["detail"]
    # Neither hibernating nor crashing gives one back,
    host.act("a", "hibernate")
    os.kill(host.get("b")["vmm"]["pid"], signal.SIGKILL)
    host.wait_state("b", "crashed")
    create(host, "c", expect=429)
    # and it is still there after the next start.
    assert host.get("a")["network"]["address"] in used
    host.act("a", "wake")
    mine = address_of(host, "a")
    assert mine in used
    host.destroy("b")
    for i in range(6):
        box = create(host, f"c{i}", ports=ports(80))
        assert box["network"]["address"] in used - {mine}
        assert world.outside.get(box["network"]["address"], 80)[0] == 200
        host.destroy(f"c{i}")


def test_hibernated_address_is_kept_over_a_restart(make_net):
    world = small()
    host = make_net(world=world, config=world.config(ports=None))
    create(host, "a", ports=ports(80))
    mine = address_of(host, "a")
    host.act("a", "hibernate")
    assert not host.net_residue()
    host.stop()
    host.start()
    assert address_of(host, "a") == mine
    other = create(host, "b")["network"]["address"]
    assert other != mine
    create(host, "c", expect=429)
    host.act("a", "wake")
    assert address_of(host, "a") == mine
    assert world.outside.get(mine, 80)[0] == 200
    assert connects(world.outside, [(other, 80)]) == set()


def test_a_port_of_the_host_is_one_sandboxs(net):
    world, port = net.world, PORTS[5]
    create(net, "a", ports=ports(80, host=port))
    for proto in ("tcp", "udp"):
        answer = create(net, "b", expect=409, ports=ports(80, host=port, proto=proto))
        assert f"port {port}/{proto} of the host is taken" in answer["detail"]
    for strange in (PORTS[0] - 1, PORTS[-1] + 1, 22):
        answer = create(net, "b", expect=422, ports=ports(80, host=strange))
        assert "network.ports[0].host" in answer["detail"], answer
    net.act("a", "hibernate")
    create(net, "b", expect=409, ports=ports(80, host=port))
    assert not world.outside.get(HOST, port, timeout=1)
    net.act("a", "wake")
    assert world.outside.get(HOST, port)[0] == 200
    net.destroy("a")
    create(net, "b", ports=ports(80, host=port))
    assert world.outside.get(HOST, port)[0] == 200


def test_clones_get_the_templates_policy_but_not_its_ports_of_the_host(net):
    create(net, "src", "list", allow=["203.0.113.0/24"], ports=ports(80, host=PORTS[1]))
    answer = net.api("POST", "/v1/sandboxes/src/snapshot", {"template": "t"})
    assert answer.status == 201, answer
    clone = net.api("POST", "/v1/sandboxes", {"id": "c", "template": "t", "wait_for": HTTP}).json
    assert clone["network"]["egress"] == "list" and clone["network"]["allow"] == ["203.0.113.0/24"]
    assert clone["network"]["ports"] == [{"guest": 80, "proto": "tcp"}]
    assert clone["network"]["address"] != address_of(net, "src")
    assert net.world.outside.get(clone["network"]["address"], 80)[0] == 200
    guest = StandinGuest(net, "c")
    check_egress(net.world, {guest: ["203.0.113.9"]}, [address_of(net, "src")])
    # A guest with a device has a slot; one without gets none.
    answer = net.api("POST", "/v1/sandboxes", {"template": "t", "network": None})
    assert answer.status == 422 and "network" in answer.json["detail"], answer
    net.destroy("c")
    net.destroy("src")
    assert net.api("DELETE", "/v1/templates/t").status == 200


# ------------------------------------------------------------------ life and death

def test_hibernate_and_wake_keep_address_and_policy(net):
    create(net, "a", "internet", ports=ports(80, host=PORTS[2]))
    mine = address_of(net, "a")
    for _ in range(2):
        net.act("a", "hibernate")
        assert net.get("a")["network"]["address"] == mine
        assert not net.net_residue() and not net.world.outside.get(mine, 80, timeout=0.3)
        net.act("a", "wake")
        assert address_of(net, "a") == mine
        assert net.world.outside.get(mine, 80)[0] == 200
        assert net.world.outside.get(HOST, PORTS[2])[0] == 200
    check_egress(net.world, {StandinGuest(net, "a"): [PUBLIC, RESOLVER]})


def test_networks_go_on_without_cloisterd(net):
    world = net.world
    create(net, "a", "internet", ports=ports(80, host=PORTS[4]))
    create(net, "b", "none")
    mine, other = address_of(net, "a"), address_of(net, "b")
    net.stop(signal.SIGKILL)
    for way in ((mine, 80), (HOST, PORTS[4])):
        assert world.outside.get(*way)[0] == 200
    assert connects(world.outside, [(mine, 81), (other, 80)]) == set()
    net.start()
    assert (address_of(net, "a"), address_of(net, "b")) == (mine, other)
    assert world.outside.get(mine, 80)[0] == 200
    create(net, "c", expect=409, ports=ports(80, host=PORTS[4]))
    assert create(net, "c", "none")["network"]["address"] not in (mine, other)
    guest = StandinGuest(net, "a")
    check_egress(world, {guest: [PUBLIC, RESOLVER]}, [other])
    net.destroy("a")
    assert not world.outside.get(mine, 80, timeout=0.3)


def test_a_create_that_gets_no_network_leaves_nothing(net):
    create(net, "first")
    net.world.host.ip("link del up0\n")
    answer = create(net, "second", expect=500, wait_for=None)
    assert "up0" in answer["detail"], answer
    assert [b["id"] for b in net.list()] == ["first"]
    assert len(net.world.links()) == 1
    net.destroy("first")
    assert not net.net_residue() and not net.residue()


def test_64_at_once_killed_at_once(make_net):
    world = World()
    host = make_net(world=world, limits="max_sandboxes = 100")
    network = {"egress": "internet", "ports": ports(80)}
    before = world.host.run("ip", "-o", "link")

    def make(i):
        host.create(id=f"s{i}", memory_mib=16, cmdline="tick=0", network=network, wait_for=HTTP)

    at_once([lambda i=i: make(i) for i in range(64)])
    addresses = {b["network"]["address"] for b in host.list()}
    assert len(addresses) == 64 == len(world.links())
    assert connects(world.outside, [(a, 80) for a in addresses], 3) == {(a, 80) for a in addresses}
    shims, vmms = host.shim_pids(), host.vmm_pids()
    assert len(shims) == 64 <= len(vmms)
    for pid in [*shims, *vmms]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it went with its shim
    wait_for(lambda: not any(alive(p) for p in [*shims, *vmms]), 15, "their end")
    wait_for(lambda: not world.links(), 15, "their interfaces' end")
    assert world.host.run("ip", "-o", "link") == before
    assert not host.net_residue()
    assert not world.host.run("ip", "neigh", "show", "nud", "permanent").strip()
    for i in range(64):
        host.wait_state(f"s{i}", "crashed")
    at_once([lambda i=i: host.destroy(f"s{i}") for i in range(64)])
    # And all addresses can be given out again.
    create(host, "again", ports=ports(80))
