"""What the reader asks the loader for. Apart from the loader, whose imports cost 5 MB."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from rallypoint.probe.domain.layout import Config

TRACEPOINTS: Final[Mapping[str, str]] = {
    "state": "inet_sock_set_state",
    "state_again": "inet_sock_set_state",
    "segment": "tcp_probe",
    "retransmit": "tcp_retransmit_skb",
    "reset": "tcp_receive_reset",
    "reset_again": "tcp_receive_reset",
    "ready": "sk_data_ready",
    "receive": "sock_recv_length",
    "send": "sock_send_length",
    "drop": "udp_fail_queue_rcv_skb",
    "read_old": "tcp_rcv_space_adjust",
}
LIGHT: Final = ("segment", "state", "state_again", "retransmit")
RESETS: Final = ("reset", "reset_again")
FULL: Final = (*LIGHT, *RESETS, "ready", "receive", "send", "drop")
# Before Linux 6.3: no turnaround, no time to acknowledge, nothing of datagrams but drops.
OLD: Final = (*LIGHT, *RESETS, "drop", "read_old")
MODES: Final[Mapping[str, tuple[str, ...]]] = {"full": FULL, "old": OLD, "light": LIGHT}
MAPS: Final = (
    "slots", "slot_of", "free_slots", "watched_cgroups", "watched_ports", "events", "totals",
    ".data",
)  # fmt: skip
CALL_PROGRAMS: Final = ("calls_in", "calls_out")
CALL_MAPS: Final = ("calls", "call_totals")
MESSAGE_BYTES: Final = 65_536
MOST_DESCRIPTORS: Final = 64


def attach_order(mode: str) -> list[str]:
    """A mode's programs as they are attached and told.

    Connections are seen last: until then no socket has a state that half the programs know.
    """
    return sorted(MODES[mode], key=lambda name: name.startswith("state"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to load; it crosses to the loader as JSON."""

    mode: str = "full"
    slots: int = 256
    events_bytes: int = 262_144
    ports: tuple[int, ...] = ()
    cgroups: tuple[int, ...] = ()
    config: Config = field(default_factory=Config)
    resident: bool = False
    calls_cgroup: str = ""
    """The folder of the cgroup whose calls are followed; empty: nobody's."""

    def dump(self) -> str:
        """As an argument of the loader's command line."""
        return json.dumps(asdict(self))


def parse(text: str) -> Wanted:
    """The inverse of `Wanted.dump`."""
    raw = json.loads(text)
    raw["config"] = Config(**raw["config"])
    return Wanted(**{**raw, "ports": tuple(raw["ports"]), "cgroups": tuple(raw["cgroups"])})
