"""Slots as they lie in memory, and the series made of them."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import replace

import pytest

from rallypoint.kit.settings import SettingsError
from rallypoint.probe import config, sampling, snmp, source, wish
from rallypoint.probe.domain import layout, series
from rallypoint.probe.domain.cgroups import UNKNOWN, Owner
from rallypoint.probe.domain.layout import Key

KEY = Key(cgroup=77, netns=5, port=7001, protocol="udp", role="server", bank=1)


def memory(index: int = 0, key: Key = KEY, **counters: int) -> list[int]:
    """Two slots, one of them taken."""
    words = [0] * (2 * layout.SLOT_WORDS)
    at = index * layout.SLOT_WORDS
    words[at], words[at + 1] = struct.unpack("=QQ", key.pack())
    words[at + 2] = struct.unpack("=Q", struct.pack("=II", 3, 1))[0]
    words[at + 3] = 123
    for name, value in counters.items():
        words[at + 4 + layout.COUNTERS.index(name)] = value
    first = at + 4 + 16
    words[first], words[first + 1 + 100] = 5000, 2  # two round trips
    return words


def test_a_slot_is_read_as_it_lies() -> None:
    (slot,) = layout.read_slots(memory(1, sends=9, drops=4))
    assert (slot.index, slot.key, slot.generation, slot.born_ns) == (1, KEY, 3, 123)
    assert (slot.counters["sends"], slot.counters["drops"]) == (9, 4)
    assert slot.histograms["rtt"].count == 2
    assert slot.histograms["rtt"].sum_ns == 5000
    assert slot.histograms["ack"].count == 0


def test_a_freed_slot_is_read_as_nothing() -> None:
    assert len(layout.freed_slot(4)) == layout.SLOT_BYTES
    words = list(struct.unpack(f"={layout.SLOT_WORDS}Q", layout.freed_slot(4)))
    assert list(layout.read_slots(words)) == []


def test_the_unknown_are_one_series_and_the_known_are_apart() -> None:
    known = Owner("game")
    (first,) = layout.read_slots(memory(sends=1))
    slots = [
        replace(first, index=i, key=KEY._replace(cgroup=group, port=port))
        for i, (group, port) in enumerate([(1, 10), (2, 11), (3, 12), (77, 10), (77, 11)])
    ]
    found = series.of_slots(slots, lambda group: known if group == 77 else UNKNOWN)
    keys = {(one.key.owner, one.key.port): one.counters["sends"] for one in found}
    assert keys == {(UNKNOWN, 0): 3, (known, 10): 1, (known, 11): 1}


def test_what_is_shown_has_no_peer_and_fits_json() -> None:
    (slot,) = layout.read_slots(memory(sends=1))
    (one,) = series.of_slots([slot], lambda _: Owner("game"))
    shown = json.loads(json.dumps(series.shown(one)))
    assert shown["rtt_ms"]["count"] == 2
    assert shown["counters"] == {"sends": 1}
    assert set(shown) == {
        "owner", "pod", "container", "transport", "port", "role", "counters", "rtt_ms",
    }  # fmt: skip


def test_settings_become_what_is_loaded() -> None:
    wanted = config.wanted(config.Settings(probe_ports=("80", "443")), pods_root=0)
    assert wanted.ports == (80, 443)
    assert wanted.config.every_cgroup
    assert not wanted.config.every_port
    assert not config.wanted(config.Settings(), pods_root=9).config.every_cgroup
    assert wish.parse(wanted.dump()) == wanted


@pytest.mark.parametrize(
    "bad",
    [
        {"probe_mode": "best"}, {"probe_scope": "some"}, {"probe_ports": ("http",)},
        {"probe_slots": 0}, {"probe_slots": 65_537},
    ],
    ids=["mode", "scope", "ports", "no slot", "slots beyond 16 bits"],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="RALLYPOINT_PROBE_"):
        config.wanted(config.Settings(**bad), pods_root=0)  # type: ignore[arg-type]


def test_without_bpf_connections_are_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near, listener.accept()[0] as far:
            near.sendall(b"x")
            far.recv(1)
            opened = source.open_best(wish.Wanted(mode="inet_diag", ports=(port,)))
            opened.look()
            opened.look()
            looks = sum(slot.histograms["rtt"].count for slot in opened.slots())
            rtt, least, retransmits = sampling.tcp_info(near)
    assert opened.mode == "inet_diag"
    assert looks >= 2  # of the end whose port is the server's
    assert rtt >= least > 0
    assert retransmits == 0


def test_the_last_step_has_no_slots() -> None:
    opened = source.open_best(wish.Wanted(mode="snmp"))
    assert (opened.mode, opened.slots()) == ("snmp", [])
    assert snmp.counters()["Tcp.ActiveOpens"] >= 0
    assert snmp.counters("Tcp: A B\nTcp: 1 -2\nIp: C\nIp: 3\n") == {"Tcp.A": 1, "Tcp.B": -2}
