# SPDX-License-Identifier: Apache-2.0
"""A supervisor that has been taken over, on networks: addresses and ports of others, of the host, or of
nobody; policies that make no sense. In a world of the tests' own, see networld.py."""
import contextlib
import os

import pytest

import harness
import wire
from harness import alive, wait_for
from networld import POOL, PORTS
from test_network import make_net

__all__ = ["make_net"]  # the fixture
pytestmark = pytest.mark.standin
BIG, TCP = 2**32 - 1, 6
LAST = POOL.num_addresses - 1

# What is wrong with each; nothing of them comes to be. Slot 1 and its port are the victim's.
NETWORKS = {
    "the victim's slot": dict(slot=1), "no slot's": dict(slot=LAST), "beyond the pool": dict(slot=BIG),
    "a port's address": dict(slot=LAST - 1), "the first of the ports'": dict(slot=LAST + 1 - len(PORTS)),
    "the victim's port": dict(slot=9, ports=[(TCP, 80, PORTS[0])]),
    "a port of the host's": dict(slot=9, ports=[(TCP, 80, 22)]),
    "a port below": dict(slot=9, ports=[(TCP, 80, PORTS[0] - 1)]),
    "a port above": dict(slot=9, ports=[(TCP, 80, PORTS[-1] + 1)]),
    "a port twice": dict(slot=9, ports=[(TCP, 80, 0), (TCP, 80, PORTS[5])]),
    "a host's port twice": dict(slot=9, ports=[(TCP, 80, PORTS[5]), (TCP, 81, PORTS[5])]),
    "port 0": dict(slot=9, ports=[(TCP, 0, PORTS[5])]),
    "another protocol": dict(slot=9, ports=[(1, 80, PORTS[5])]),
    "no protocol": dict(slot=9, ports=[(BIG, 80, PORTS[5])]),
    "more ports than there are": dict(slot=9, counts=(0, 17)),
    "ports without end": dict(slot=9, counts=(0, BIG)),
    "ports that are not counted": dict(slot=9, ports=[(TCP, 80, 0)], counts=(0, 0)),
    "an egress of no kind": dict(slot=9, egress=3), "egress -1": dict(slot=9, egress=BIG),
    "a list without a list": dict(slot=9, egress=1, allow=[(0x08080808, 32)]),
    "more ranges than there are": dict(slot=9, egress=2, counts=(17, 0)),
    "a prefix too long": dict(slot=9, egress=2, allow=[(0, 33)]),
    "a prefix -1": dict(slot=9, egress=2, allow=[(0, BIG)]),
    "bits behind a prefix": dict(slot=9, egress=2, allow=[(0x08080808, 24)]),
    "a rate beyond": dict(slot=9, rates=(BIG, 0)), "the other rate": dict(slot=9, rates=(0, 1000001)),
    "a port without a network": dict(slot=0, ports=[(TCP, 80, 0)]),
    "a policy without a network": dict(slot=0, egress=1),
}


def test_networks_of_others(make_net):
    """Held by: every field is checked by the records' reader, slot and ports against root's own pool
    (slot.c, hostnet.c), and what another one has by the kernel: a link or a route that is there."""
    host = make_net(limits="destroy_ms = 3000")
    victim = host.create(id="victim", cmdline="tick=0", network={
        "egress": "none", "ports": [{"guest": 80, "host": PORTS[0]}]})
    link, = host.world.links()
    routes = host.world.host.run("ip", "route")
    rules = host.world.host.run("nft", "list", "ruleset")
    policy = wire.steal_policy(host)
    host.stop()
    with host.world.host:
        spawner = wire.Spawner(host, policy)
    try:
        for what, change in harness.some(NETWORKS.items()):
            with spawner.start("bob:x") as shim:
                shim.send(wire.record("CREATE", wire.create(network=wire.network(**change))))
                answer = None
                with contextlib.suppress(wire.Closed):
                    answer = shim.receive()
                assert answer is None or answer[0] == "ERROR", (what, answer)
                assert shim.is_closed(), what
            spawner.end("bob:x")
            wait_for(lambda: host.world.links() == [link], what=f"an end of {what}")
        # One of two that want the same, and after it the other.
        for box in ("bob:x", "bob:y"):
            with spawner.start(box) as shim:
                shim.send(wire.record("CREATE", wire.create(slot=9)))
                assert shim.receive()[0] == ("CREATED" if box == "bob:x" else "ERROR")
        for box in ("bob:x", "bob:y"):
            spawner.end(box)
        wait_for(lambda: host.world.links() == [link], what="an end of both")
        assert host.world.host.run("ip", "route") == routes
        assert host.world.host.run("nft", "list", "ruleset") == rules
        assert alive(victim["vmm"]["pid"])
    finally:
        spawner.stop()
        os.close(policy)
    host.start()
    assert host.get("victim")["network"] == victim["network"]
