"""Calls off the wire: gRPC by its methods, DNS; what cannot be followed is counted."""

from __future__ import annotations

import random
import socket
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel import rig
from tests.kernel.call_plays import METHODS, TOKEN
from tests.kernel.conftest import EVERYTHING
from tests.kernel.peer import Part
from tests.kernel.test_exporter import probing
from tests.support import cgroups
from tests.support.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame

from rallypoint.probe import session, wish
from rallypoint.probe.domain import calls
from rallypoint.probe.domain.calls import CallKey

pytestmark = pytest.mark.usefixtures("namespaces")
QUICK, SLOW = (method.removeprefix("/") for method in METHODS)
FIRST = b"\x83\x86\x44\x08/x.Y/Zed\x5f\x10application/grpc"  # path and type go into the table …
AGAIN = b"\x83\x86\xbf\xbe"  # … and come out of it
OK = b"\x88"


@pytest.fixture
def root() -> Path:
    found = cgroups.unified_root()
    if found is None:
        pytest.skip("no unified cgroup hierarchy")
    return found


@pytest.fixture
def alone(root: Path) -> Iterator[Path]:
    """A cgroup of our own: others on this machine may ask for names too."""
    with cgroups.pods_folder(root) as pods, cgroups.container(pods, "1", "2") as folder:
        yield folder


def following(root: Path, port: int) -> session.Session:
    wanted = wish.Wanted(ports=(port,), config=EVERYTHING, calls_cgroup=str(root))
    opened = session.Session(wanted)
    assert opened.loaded.calls_refused == ""
    return opened


def taken(probe: session.Session, *ports: int) -> tuple[calls.Calls, dict[CallKey, calls.Timed]]:
    """What the calls add up to, by keys without their cgroup."""
    assert probe.calls
    found = calls.Calls()
    found.take(event for event in probe.calls.events() if event.port in ports)
    return found, {key._replace(cgroup=0): timed for key, timed in found.series.items()}


def mean_s(found: dict[CallKey, calls.Timed], role: str, method: str, port: int) -> float:
    timed = found[CallKey(0, calls.GRPC, port, role, method)]
    assert timed.values.count == 40
    return timed.values.mean_s


def test_every_call_is_timed_by_its_method_at_both_ends(root: Path, port: int) -> None:
    with following(root, port) as probe, rig.cable(5, 5) as cable:
        _, asked = cable.talk(
            Part("serve_grpc", port=port, think_ms=15), Part("ask_grpc", port=port, count=40)
        )
        follower, found = taken(probe, port)
        assert probe.calls
        assert not any({**follower.unrecognised, **probe.calls.totals()}.values())
    assert len(found) == 4
    for method, least_s in ((QUICK, 0.01), (SLOW, 0.025)):
        seen = statistics.mean(asked["times_s"][f"/{method}"])
        told = mean_s(found, "client", method, port)
        assert least_s < told < seen
        assert seen - told < 0.01  # its own library's and scheduler's part
        assert told - mean_s(found, "server", method, port) == pytest.approx(0.0103, abs=0.003)


def test_connections_older_than_the_probe_are_counted_not_guessed(root: Path, port: int) -> None:
    call = frame(HEADERS, END_HEADERS | END_STREAM, 1, FIRST)
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        socket.create_connection(("127.0.0.1", port)) as client,
        listener.accept()[0] as server,
    ):
        client.sendall(PREFACE + frame(SETTINGS, 0, 0))
        drain(server, len(PREFACE) + 9)
        with following(root, port) as probe:
            client.sendall(call)
            drain(server, len(call))
            server.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK))
            _, found = taken(probe, port)
            assert probe.calls
            assert probe.calls.totals()["late"] == 2
            assert found == {}


def test_questions_of_dns_are_told_apart_by_who_asks_and_number(alone: Path, port: int) -> None:
    with following(alone, port) as probe, rig.cable(2, 2) as cable:
        dns = Part("serve_dns", count=40, think_ms=8, cgroup=str(alone))
        _, asked = cable.talk(dns, Part("ask_dns", count=40, cgroup=str(alone)))
        _, found = taken(probe, 53)
    for role in ("client", "server"):
        fine, failed = (
            found[CallKey(0, calls.DNS, 53, role, "", failed)].values for failed in (False, True)
        )
        assert (fine.count, failed.count) == (36, 4)
    told = [found[CallKey(0, calls.DNS, 53, "client", "", bad)].values for bad in (False, True)]
    mean = sum(values.sum_ns for values in told) / 40 / 1e9
    assert mean == pytest.approx(statistics.mean(asked["times_s"]), rel=0.1)


def in_pieces(
    sock: socket.socket, to: socket.socket, data: bytes, before: int, rng: random.Random
) -> None:
    """Each in a segment of its own, cut anywhere; the other end reads it, and what came before."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reading = threading.Thread(target=drain, args=(to, before + len(data)))
    reading.start()
    while data:
        size = rng.choice((1, 2, 3, 5, 8, 13, 40, 300))
        sock.sendall(data[:size])
        data = data[size:]
    reading.join()


def test_frames_that_are_cut_anywhere_are_followed(root: Path, port: int) -> None:
    rng = random.Random(6)
    blocks = [FIRST, *[AGAIN + b"\x00\x01t" + bytes([127, 0xA9, 2]) + b"v" * 424] * 30]
    asked = b"".join(
        frame(HEADERS, END_HEADERS, 2 * i + 1, block)
        + frame(DATA, END_STREAM, 2 * i + 1, b"z" * 99)
        for i, block in enumerate(blocks)
    )
    answers = b"".join(
        frame(HEADERS, END_HEADERS, 2 * i + 1, OK) + frame(DATA, END_STREAM, 2 * i + 1, b"y")
        for i in range(len(blocks))
    )
    with (
        following(root, port) as probe,
        socket.create_server(("127.0.0.1", port)) as listener,
        socket.create_connection(("127.0.0.1", port)) as client,
        listener.accept()[0] as server,
    ):
        server.sendall(frame(SETTINGS, 0, 0))
        client.sendall(PREFACE)
        in_pieces(client, server, asked, len(PREFACE), rng)
        in_pieces(server, client, answers, 9, rng)
        follower, found = taken(probe, port)
        assert probe.calls
        assert not any({**follower.unrecognised, **probe.calls.totals()}.values())
    assert {key.role: timed.values.count for key, timed in found.items()} == {
        "client": len(blocks),
        "server": len(blocks),
    }
    assert {key.method for key in found} == {"x.Y/Zed"}


def drain(sock: socket.socket, size: int) -> None:
    while size > 0 and (data := sock.recv(65536)):
        size -= len(data)


def test_a_scrape_tells_calls_and_nothing_that_was_said(port: int) -> None:
    import urllib.request

    with probing(ports=port, calls=1) as (_, address):
        rig.talk(Part("serve_grpc", port=port), Part("ask_grpc", port=port, count=10))
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
    told = [line for line in text.splitlines() if line.startswith("rpc_") and "_count{" in line]
    assert [line.rpartition(" ")[2] for line in told] == ["10"] * 4
    assert f'rpc_method="{SLOW}"' in text
    assert "rpc_client_call_duration_seconds_bucket" in text
    assert 'rallypoint_probe_calls{state="on"} 1' in text
    assert TOKEN[:20] not in text
