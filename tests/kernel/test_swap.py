"""Programs are swapped under traffic: every event is counted once, by the old or by the new."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.kernel import rig
from tests.kernel.conftest import EVERYTHING
from tests.kernel.peer import Part
from tests.kernel.test_exporter import probing, scraped
from tests.support.waiting import wait_until

from rallypoint.kit import errors
from rallypoint.probe import build, rights, session, updating, wish

pytestmark = pytest.mark.usefixtures("namespaces")
CONNECTIONS, COUNT = 100, 200


@pytest.fixture
def swappable(allowed: None, port: int) -> Iterator[session.Session]:
    wanted = wish.Wanted(ports=(port,), config=EVERYTHING, resident=True)
    with session.Session(wanted) as opened:
        yield opened


@pytest.fixture
def version() -> Path:
    """The same programs again: what differs is that they are others to the kernel."""
    return build.object_file("socket")


def counted(probe: session.Session, role: str, counter: str) -> dict[int, int]:
    """By bank."""
    found = {0: 0, 1: 0}
    for slot in probe.slots():
        if slot.key.role == role:
            found[slot.key.bank] += slot.counters[counter]
    return found


def test_no_event_is_missed_or_counted_twice_while_versions_change(
    swappable: session.Session, version: Path, port: int
) -> None:
    part = {"port": port, "connections": CONNECTIONS, "count": COUNT}
    swaps = 0
    with ThreadPoolExecutor() as pool:
        talk = pool.submit(rig.talk, Part("serve_echo", **part), Part("ask", **part))
        while not talk.done():
            swappable.canary(version, of_256=swaps * 37 % 256)
            swappable.promote()
            swaps += 2
        talk.result()
    assert swaps >= 2
    for role in ("client", "server"):
        for counter in ("sends", "receives"):
            assert sum(counted(swappable, role, counter).values()) == CONNECTIONS * COUNT
        assert sum(counted(swappable, role, "opens").values()) == CONNECTIONS
        assert sum(counted(swappable, role, "closed").values()) == CONNECTIONS
    assert sum(swappable.totals().values()) == 0


def test_a_canary_gets_its_share_and_a_rollback_ends_it(
    swappable: session.Session, version: Path, port: int
) -> None:
    part = {"port": port, "connections": 200, "count": 2}
    swappable.canary(version, of_256=64)
    rig.talk(Part("serve_echo", **part), Part("ask", **part))
    opens = counted(swappable, "client", "opens")
    assert sum(opens.values()) == 200
    assert 20 < opens[1] < 90
    assert len(swappable.canary_costs()) == len(wish.FULL)
    swappable.rollback()
    with pytest.raises(errors.FailedPrecondition, match="NO_CANARY"):
        swappable.promote()
    rig.talk(Part("serve_echo", **part), Part("ask", **part))
    assert counted(swappable, "client", "opens") == {0: opens[0] + 200, 1: opens[1]}
    assert swappable.canary_costs() == []


def test_what_cannot_be_loaded_changes_nothing(
    swappable: session.Session, port: int, tmp_path: Path
) -> None:
    broken = tmp_path / "socket.bpf.o"
    broken.write_bytes(b"no object")
    with pytest.raises(errors.FailedPrecondition):
        swappable.canary(broken, of_256=10)
    with pytest.raises(errors.FailedPrecondition, match="NO_CANARY"):
        swappable.promote()
    rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=5))
    assert counted(swappable, "client", "sends") == {0: 5, 1: 0}


def test_only_what_was_tried_is_promoted(
    swappable: session.Session, version: Path, port: int, tmp_path: Path
) -> None:
    tried = tmp_path / "socket.bpf.o"
    tried.write_bytes(version.read_bytes())
    swappable.canary(tried, of_256=255)
    tried.write_bytes(version.read_bytes() + b"and more")
    with pytest.raises(errors.FailedPrecondition, match="OBJECT_CHANGED"):
        swappable.promote()
    tried.unlink()
    with pytest.raises(errors.FailedPrecondition, match="NO_CANARY"):
        swappable.promote()
    with pytest.raises(errors.FailedPrecondition, match="NO_OBJECT"):
        swappable.canary(tried, of_256=255)
    rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=5))
    assert counted(swappable, "client", "sends") == {0: 5, 1: 0}


def test_a_resident_loader_goes_with_its_session(allowed: None) -> None:
    opened = session.Session(wish.Wanted(config=EVERYTHING, resident=True))
    process = opened._loader
    assert process.poll() is None
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"CapEff:\t{1 << rights.CAP_BPF | 1 << rights.CAP_PERFMON:016x}\n" in status
    opened.close()
    assert process.poll() == 0


def test_a_signal_updates_a_running_probe_and_its_figures_decide(port: int) -> None:
    def state(address: str) -> str:
        ((labels, _),) = scraped(address)["rallypoint_probe_update"]
        return labels["state"]

    part = {"port": port, "connections": 100, "count": 20}
    settings = {"hot_update": 1, "canary_percent": 50, "canary_s": 2, "ports": port}
    with probing(**settings) as (process, address):
        assert state(address) == "none"
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: state(address) == "canary", "the canary has its share")
        rig.talk(Part("serve_echo", **part), Part("ask", **part))
        shown = scraped(address)["rallypoint_socket_sends_total"]
        assert {labels.get("version", "") for labels, _ in shown} == {"", "canary"}
        wait_until(lambda: state(address) == "promoted", "it gets all")
        found = scraped(address)
        sends = found["rallypoint_socket_sends_total"]
        assert sorted((labels["role"], n) for labels, n in sends) == [
            ("client", 2000),
            ("server", 2000),
        ]
        assert found["rallypoint_probe_leaked"] == [({}, 0)]


def updated(swappable: session.Session) -> updating.Updating:
    """Decides as soon as there is enough to go by; half of the connections are the canary's."""
    return updating.Updating(swappable, percent=50, seconds=0)


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_loader_that_dies_ends_the_update_and_not_the_probe(
    swappable: session.Session, port: int, moment: str
) -> None:
    part = {"port": port, "connections": 100, "count": 20}
    update = updated(swappable)
    if moment == "during":
        update.begin()
        rig.talk(Part("serve_echo", **part), Part("ask", **part))
    swappable._loader.kill()
    swappable._loader.wait()
    if moment == "during":
        update.look()
    else:
        update.begin()
    assert update.state == "failed"
    assert update.reason
    update.look()
    assert update.state == "failed"
    before = sum(counted(swappable, "client", "sends").values())
    rig.talk(Part("serve_echo", **part), Part("ask", **part))
    assert sum(counted(swappable, "client", "sends").values()) == before + 2000


def test_a_second_update_is_not_judged_by_the_first_ones_counts(
    swappable: session.Session, port: int
) -> None:
    part = {"port": port, "connections": 100, "count": 20}
    update = updated(swappable)
    for _ in range(2):
        update.begin()
        update.look()
        assert (update.state, update.reason) == ("canary", "0 receives by the canary")
        rig.talk(Part("serve_echo", **part), Part("ask", **part))
        update.look()
        assert (update.state, update.reason) == ("promoted", "counts agree")
