"""Counters equal the kernel's own; slots run out, are freed and are used again."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack

import pytest
from tests.kernel import rig
from tests.kernel.conftest import EVERYTHING
from tests.kernel.peer import Part
from tests.kernel.test_latency import of
from tests.support.waiting import wait_until

from rallypoint.probe import session, wish
from rallypoint.probe.domain.layout import Config, EventKind
from rallypoint.probe.session import Session

pytestmark = pytest.mark.usefixtures("namespaces")
TURNS = int(os.environ.get("COUNTING_TURNS", "1"))


@pytest.mark.parametrize("_turn", range(TURNS))
def test_counting_is_exact(probe: Session, port: int, _turn: int) -> None:
    many = {"port": port, "connections": 200, "count": 100}
    with rig.namespace() as alone:
        before = rig.snmp(alone, "Tcp")
        rig.talk(Part("serve_rounds", netns=alone, **many), Part("ask_rounds", netns=alone, **many))
        after = rig.snmp(alone, "Tcp")
    missed = {cost.name: cost.missed for cost in probe.costs()}
    for role, counter in (("client", "ActiveOpens"), ("server", "PassiveOpens")):
        slot = of(probe, role)
        assert slot.counters["receives"] == slot.counters["sends"] == 20_000
        waited, acknowledged = slot.histograms["receive_queue"], slot.histograms["ack"]
        assert waited.count + slot.counters["arrivals_untimed"] == 20_000
        assert slot.counters["arrivals_untimed"] <= missed["ready"]
        assert acknowledged.count + slot.counters["sends_untimed"] == 20_000
        # A last answer may come in while its send is being remembered, on another processor.
        assert slot.counters["sends_untimed"] <= missed["segment"] + 3
        assert slot.counters["opens"] == after[counter] - before[counter] == 200
        assert slot.counters["established"] == slot.counters["closed"] == 200
    assert sum(probe.totals().values()) == 0


@pytest.mark.parametrize("missed", ["", "_again"], ids=["first", "second"])
def test_what_one_program_misses_its_twin_counts(probe: Session, port: int, missed: str) -> None:
    """The kernel enters no program that an interrupt found at work; here it is off altogether."""
    for hook in ("state", "reset"):
        os.close(probe.loaded.links.pop(hook + missed))
    rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=3))
    two = {"port": port, "connections": 2}
    rig.talk(Part("serve_cut", **two), Part("knock", **two))
    for role in ("client", "server"):
        counters = of(probe, role).counters
        told = [counters[name] for name in ("opens", "established", "closed", "receives")]
        assert told == [3, 3, 3, 3 + 2 * (role == "server")]
        assert counters["resets"] == 2 * (role == "client")
        assert of(probe, role).histograms["connect"].count == 3 * (role == "client")


def test_a_read_of_what_no_program_saw_coming_is_counted_as_untimed(
    probe: Session, port: int
) -> None:
    seen = rig.free_port()
    probe.watch_port(seen)
    rig.talk(Part("serve_echo", port=seen), Part("ask", port=seen, count=3))
    os.close(probe.loaded.links.pop("ready"))
    rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=3))
    for slot in probe.slots():
        missed = 3 * (slot.key.port == port)
        assert slot.counters["arrivals_untimed"] == missed
        assert slot.histograms["receive_queue"].count == 3 - missed


def test_a_long_wait_is_timed_and_what_comes_long_after_it_is_counted(
    probe: Session, port: int
) -> None:
    """Half of a time is kept of each arrival, 3.2 s: the oldest's is whole all the same."""
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        socket.create_connection(("127.0.0.1", port)) as near,
        listener.accept()[0] as far,
    ):
        for pause_s in (3.0, 0.5, 0.0):
            near.sendall(b"x")
            time.sleep(pause_s)
        assert far.recv(3) == b"xxx"
    server = of(probe, "server")
    waited = server.histograms["receive_queue"]
    assert (waited.count, server.counters["arrivals_untimed"]) == (2, 1)
    assert 4.0 <= waited.sum_ns / 1e9 < 4.4


def test_retransmits_are_those_of_the_kernel_and_of_the_rig(probe: Session, port: int) -> None:
    with rig.cable(5, 5, drop_every=20) as cable:
        _, asked = cable.talk(
            Part("serve_echo", port=port), Part("ask", port=port, count=200, gap_ms=1)
        )
        of_kernel = {
            "client": rig.snmp(cable.client, "Tcp")["RetransSegs"],
            "server": rig.snmp(cable.server, "Tcp")["RetransSegs"],
        }
    told = [event for event in probe.events() if event.kind == EventKind.RETRANSMIT]
    for role, kernel in of_kernel.items():
        slot = of(probe, role)
        assert slot.counters["retransmits"] == kernel
        assert sum(event.value for event in told if event.slot == slot.index) == kernel
    assert of_kernel["client"] == asked["retransmits"] == cable.report["there"]["dropped"] >= 10
    assert set(asked["cookies"]) < {event.cookie for event in told}


def test_a_socket_that_connects_again_counts_from_nothing(probe: Session, port: int) -> None:
    """At first nobody takes it in, so its SYN is sent again; then the kernel forgets those sums."""
    with (
        socket.create_server(("127.0.0.1", port), backlog=0) as listener,
        socket.create_connection(("127.0.0.1", port)),
        socket.socket() as again,
    ):
        again.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1200)
        with pytest.raises(TimeoutError):
            again.connect(("127.0.0.1", port))
        listener.accept()[0].close()
        again.connect(("127.0.0.1", port))
        again.sendall(b"x")
    counters = of(probe, "client").counters
    assert (counters["opens"], counters["connects_failed"], counters["established"]) == (3, 1, 2)
    assert 1 <= counters["retransmits"] < 10


def test_resets_are_those_of_the_kernel(probe: session.Session, port: int) -> None:
    """Every reset that one end sends, the other receives: both are in this namespace."""
    with rig.namespace() as alone:
        parts = {"netns": alone, "port": port}
        with rig.peer(Part("knock", connections=7, **parts)) as nobody_listens:
            assert nobody_listens.result() == {"refused": 7, "cut": 0}
        _, seen = rig.talk(
            Part("serve_cut", connections=30, **parts), Part("knock", connections=30, **parts)
        )
        kernel = rig.snmp(alone, "Tcp")
    assert seen == {"refused": 0, "cut": 30}
    client, server = (of(probe, role).counters for role in ("client", "server"))
    assert client["resets"] + server["resets"] == kernel["OutRsts"] == 37
    assert client["aborts"] + server["aborts"] == kernel["EstabResets"] == 60
    assert client["connects_failed"] == kernel["AttemptFails"] == 7
    assert (server["resets"], server["aborts"]) == (0, 30)


def test_dropped_datagrams_are_those_of_the_kernel(probe: Session, port: int) -> None:
    with rig.namespace() as alone:
        deaf = Part("serve_datagrams", netns=alone, port=port, count=0, receive_buffer=1)
        loud = Part("send_datagrams", netns=alone, port=port, count=500)
        with rig.peer(deaf), rig.peer(loud) as sending:
            sending.result()
        kernel = rig.snmp(alone, "Udp")["RcvbufErrors"]
    assert of(probe, "server").counters["drops"] == kernel > 400


def test_a_full_table_is_counted_and_a_freed_slot_is_used_again(allowed: None) -> None:
    first, second = rig.free_port(), rig.free_port()
    wanted = wish.Wanted(slots=2, ports=(first, second), config=EVERYTHING)
    with session.Session(wanted) as probe:
        rig.talk(Part("serve_echo", port=first), Part("ask", port=first, count=3))
        rig.talk(Part("serve_echo", port=second), Part("ask", port=second, count=3))
        assert {slot.key.port for slot in probe.slots()} == {first}
        assert probe.totals()["slots_full"] == 2
        for slot in probe.slots():
            probe.free(slot)
        assert probe.slots() == []
        rig.talk(Part("serve_echo", port=second), Part("ask", port=second, count=3))
        assert {slot.key.port for slot in probe.slots()} == {second}
        assert {slot.generation for slot in probe.slots()} == {1}
        assert of(probe, "server").counters["receives"] == 3


def test_sockets_of_a_freed_slot_count_for_nobody(probe: Session, port: int) -> None:
    with (
        rig.peer(Part("serve_echo", port=port)),
        rig.peer(Part("ask", port=port, count=40, gap_ms=25)) as asking,
    ):
        wait_until(lambda: bool(probe.slots()), "a slot is taken")
        for slot in probe.slots():
            probe.free(slot)
        asking.result()
    assert probe.totals()["stale"] > 0
    assert all(slot.counters["receives"] == 0 for slot in probe.slots())


def test_connections_older_than_the_probe_are_adopted_and_told_apart(
    allowed: None, port: int
) -> None:
    """What looks like missed openings (fewer than the kernel's, with all data there) is this."""
    older, newer, rounds = 57, 143, 3
    wanted = wish.Wanted(ports=(port,), config=Config(every_cgroup=True, adopt=True))
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=256))

        def connected() -> tuple[socket.socket, socket.socket]:
            near = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            return near, stack.enter_context(listener.accept()[0])

        pairs = [connected() for _ in range(older)]
        probe = stack.enter_context(session.Session(wanted))
        pairs += [connected() for _ in range(newer)]
        for near, far in pairs * rounds:
            near.sendall(b"x")
            far.sendall(far.recv(1))
            near.recv(1)
        for role in ("client", "server"):
            counters = of(probe, role).counters
            assert (counters["opens"], counters["adopted"]) == (newer, older)
            assert counters["receives"] == (older + newer) * rounds


@pytest.mark.parametrize("known", [True, False], ids=["port watched", "every port"])
def test_who_is_the_server_is_not_guessed_between_two_chance_ports(
    allowed: None, *, known: bool
) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = stack.enter_context(socket.create_connection(listener.getsockname()))
        far = stack.enter_context(listener.accept()[0])
        server = listener.getsockname()[1]
        ours = {server, near.getsockname()[1]}
        config = Config(every_cgroup=True, every_port=not known, adopt=True)
        wanted = wish.Wanted(ports=(server,) if known else (), config=config)
        probe = stack.enter_context(session.Session(wanted))
        near.sendall(b"x")
        far.sendall(far.recv(1))
        near.recv(1)
        found = sorted(slot.key.role for slot in probe.slots() if slot.key.port in ours)
    assert found == (["client", "server"] if known else [])


def test_closing_leaves_nothing_behind(allowed: None) -> None:
    def descriptors() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    before = descriptors()
    with session.Session(wish.Wanted(config=EVERYTHING)) as probe:
        assert len(descriptors() - before) > len(list(probe.loaded.descriptors()))
        assert len(probe.loaded.links) == len(wish.FULL)
    assert descriptors() - before == set()
